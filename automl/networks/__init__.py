"""Networks, each in a file of its own named after it.

A network takes columns (blocks `numeric` and `categorical`), and what its module's `TAKES` names beside: `image`,
`sequence`, `tokens`. It is offered for tables with a block of these, and `automl.architecture` flattens other blocks.

What a network may tell training beside its outputs, none of which is needed:

* a parameter's attribute `lr_factor`: by how much its learning rate differs from the optimizer's;
* a parameter's attribute `decay`: whether weight decay is for it, where its shape does not tell
  (`automl.networks._parameters.treated` sets both);
* a method `pretrain(inputs, *, seed, deadline)`: called once before the first epoch with training rows, block name ->
  tensor (rows, columns); it returns by `deadline`, which is a `time.monotonic()`.
"""
