"""One file = one verb of the command line, working on an opened study. `raresight.api` shows them all."""
