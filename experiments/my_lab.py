"""The plug-in by which `lit_digits.yaml` may name a LightningModule: automl run ... --plugin experiments.my_lab."""

from automl.components import register
from experiments.lit_digits import LitDigits

register("network")(LitDigits)
