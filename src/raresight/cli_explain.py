"""`raresight explain`: looking into the models, arms side by side."""
