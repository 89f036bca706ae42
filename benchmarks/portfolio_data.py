"""The data sets that the portfolio of start points is learned on: none of those that quality is measured on.

Real tables of all sizes and kinds that two packages bring along. What is near to the data sets of `quality_data` (the
same survey, another edition of the same table) is left out too, as is what others are likely to judge by.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from quality_data import DataSet, Keel, Origin, R


@dataclass(frozen=True)
class Sample:
    """So many rows of another table, the same ones every time."""

    origin: Origin
    n_rows: int

    def __str__(self) -> str:
        return f"{self.n_rows:,} rows of {self.origin}"

    def read(self) -> pd.DataFrame:
        return self.origin.read().sample(n=self.n_rows, random_state=0).reset_index(drop=True)


_KEEL = "as published by KEEL"
_GPL = "GPL, as the R package"
_MIT = "MIT, as the R package"


def _keel(name: str, task: str) -> DataSet:
    return DataSet(name, task, "Class", Keel(name), _KEEL)


CLASSIFICATION = (
    _keel("vehicle", "multiclass"),
    _keel("crx", "binary"),
    _keel("vowel", "multiclass"),
    _keel("contraceptive", "multiclass"),
    DataSet("attrition", "binary", "Attrition", R("modeldata", "attrition"), _MIT),
    DataSet("cells", "binary", "class", R("modeldata", "cells", ("case",)), _MIT),
    _keel("chess", "binary"),
    DataSet("hpc", "multiclass", "class", R("modeldata", "hpc_data"), _MIT),
    DataSet("credit_status", "binary", "Status", R("modeldata", "credit_data"), _MIT),
    _keel("spambase", "binary"),
    _keel("phoneme", "binary"),
    DataSet("page_blocks", "binary", "Class", Keel("page-blocks0", "imbalanced"), _KEEL),
    _keel("satimage", "multiclass"),
    DataSet("churn", "binary", "churn", R("modeldata", "wa_churn"), _MIT),
    _keel("penbased", "multiclass"),
    _keel("magic", "binary"),
    DataSet("crashes", "binary", "dead", R("DAAG", "nassCDS", ("caseid",)), _GPL),
    DataSet("voters", "binary", "votetrump", R("stevedata", "TV16", ("uid",)), _GPL),
)
REGRESSION = (
    DataSet("car_prices", "regression", "Price", R("modeldata", "car_prices"), _MIT),
    DataSet("concrete", "regression", "compressive_strength", R("modeldata", "concrete"), _MIT),
    DataSet(
        "fuel",
        "regression",
        "comb_mpg",
        R("openintro", "epa2021", ("city_mpg", "hwy_mpg", "model_yr", "carline", "mfr_code", "fuel_cell")),
        "CC BY-SA 3.0, as the R package",
    ),
    DataSet("houses", "regression", "price", R("mosaicData", "SaratogaHouses"), _GPL),
    DataSet("men_wages", "regression", "wage", R("ISLR", "Wage", ("logwage", "region")), _GPL),
    DataSet("fares", "regression", "fare", R("wooldridge", "airfare", ("lfare", "ldist", "ldistsq", "id")), _GPL),
    DataSet("scores", "regression", "score", R("AER", "CollegeDistance"), _GPL),
    DataSet("deliveries", "regression", "time_to_delivery", R("modeldata", "deliveries"), _MIT),
    DataSet("countries", "regression", "life_expectancy", R("dslabs", "gapminder"), "Artistic 2.0, as the R package"),
    DataSet("checks", "regression", "check_time", R("modeldata", "check_times", ("package",)), _MIT),
    DataSet("hotels", "regression", "avg_price_per_room", R("modeldata", "hotel_rates", ("arrival_date",)), _MIT),
    DataSet("storms", "regression", "wind", R("dplyr", "storms", ("name", "category", "status")), _MIT),
    DataSet("rodents", "regression", "weight", R("ratdat", "complete", ("record_id", "genus", "species")), "CC0"),
    # Of a delay what is known before the plane leaves.
    DataSet(
        "flights",
        "regression",
        "arr_delay",
        Sample(
            R(
                "nycflights13",
                "flights",
                ("year", "dep_time", "dep_delay", "arr_time", "air_time", "time_hour"),
                ("flight",),
            ),
            50_000,
        ),
        "CC0, as the R package",
    ),
    DataSet("lectures", "regression", "y", R("lme4", "InstEval", (), ("s", "d", "dept")), _GPL),
)
