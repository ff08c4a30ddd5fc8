"""Looking into the models: where they look, what their units encode, and how arms differ in ways scores do not show."""
