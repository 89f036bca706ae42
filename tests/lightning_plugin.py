"""A plug-in for processes that tests start: registers the modules beside it as soon as it is imported."""

import lightning_modules

lightning_modules.register()
