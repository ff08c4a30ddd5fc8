# Two commands matter to a newcomer: `make demo` and `make test`. Both set the project up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint docs bench bench-flatness bench-step bench-input bench-ranks bench-untrained bench-bootstrap bench-score bench-heads bench-smote bench-saliency bench-dissection study study-faithfulness study-ham10000 study-nih study-pneumonia study-kills study-decisions study-methods study-flat study-severity study-noise study-nih-score study-coverage study-null study-look study-look-null study-ray mutants mutants-look clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"raresight needs Python 3.11 or newer; this is {v.major}.{v.minor}. Try: make PYTHON=python3.12 setup")'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: setup
	$(BIN)/raresight demo --out demo

lint: setup
	$(BIN)/ruff check src tests examples benchmarks docs
	$(BIN)/ruff format --check src tests examples benchmarks docs
	$(BIN)/mypy

# The pages of docs/methods say what the docstrings say; a test fails where they do not.
docs: setup
	$(BIN)/python docs/make_method_pages.py

# One thread a worker: two workers with two threads each would only wait for one another.
test: setup lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# Longer studies on real images; DATA is a folder with ham10000/, nih_cxr14_64/ and pneumoniamnist/. They resume.
DATA ?= ../shared/data
STUDIES ?= studies

study: study-ham10000 study-nih study-pneumonia study-kills study-methods study-severity study-noise

study-ham10000: setup
	$(BIN)/python benchmarks/line_study.py ham10000 $(DATA)/ham10000 $(STUDIES)/ham10000 \
		--steps 1500 --precision bf16 --table $(STUDIES)/ham10000.md

study-nih: setup
	$(BIN)/python benchmarks/line_study.py nih_cxr14_64 $(DATA)/nih_cxr14_64 $(STUDIES)/nih_cxr14_64 \
		--steps 300 --precision bf16 --table $(STUDIES)/nih_cxr14_64.md

study-pneumonia: setup
	$(BIN)/python benchmarks/line_study.py pneumoniamnist $(DATA)/pneumoniamnist/pneumoniamnist_28.npz \
		$(STUDIES)/pneumoniamnist --steps 300 --table $(STUDIES)/pneumoniamnist.md

study-faithfulness: setup
	$(BIN)/python benchmarks/faithfulness_study.py $(DATA)/ham10000 $(STUDIES)/faithfulness \
		--table $(STUDIES)/faithfulness.md --figure $(STUDIES)/faithfulness.svg

# From the opened test part of the study of the line (make study-ham10000 first); trains nothing.
study-decisions: setup
	$(BIN)/python benchmarks/decisions_study.py $(STUDIES)/ham10000 --table $(STUDIES)/decisions.md

study-methods: setup
	$(BIN)/python benchmarks/methods_study.py $(DATA)/ham10000 $(STUDIES)/methods --table $(STUDIES)/methods.md

# Do flat minima help? And can imbalanced SAM pass the rows of rare classes alone (from that study's trained networks)?
study-flat: setup
	$(BIN)/python benchmarks/flat_minima_study.py $(DATA)/ham10000 $(STUDIES)/flat --table $(STUDIES)/flat.md
	$(BIN)/python benchmarks/tail_passes.py $(STUDIES)/flat/rho msam_0.1 100 --table $(STUDIES)/tail-passes.md

# The sweeps write their own tables and curves, under $(STUDIES)/severity/<set>/sweep/<class>/.
study-severity: setup
	for set in ham10000 cells films; do \
		$(BIN)/python benchmarks/severity_study.py $$set $(DATA) $(STUDIES)/severity/$$set || exit 1; done

study-noise: setup
	$(BIN)/python benchmarks/label_noise.py $(DATA)/chula_rbc12 $(STUDIES)/noise --table $(STUDIES)/noise.md

# Simulations: do intervals cover, and does the declared family hold its 5%?
study-coverage: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/interval_coverage.py --table $(STUDIES)/coverage.md

study-null: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/comparison_null.py --table $(STUDIES)/comparison-null.md

# Are arms that do not differ flagged as looking elsewhere in at most 5% of studies, and is a planted change found?
study-look-null: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/look_null.py --table $(STUDIES)/look-null.md

# The eight arms of arXiv 2204.01729 looked into, a planted shortcut, and classifiers of volumes.
study-look: setup
	$(BIN)/python benchmarks/look_study.py ham10000 $(DATA)/ham10000 $(STUDIES)/look/ham10000 \
		--table $(STUDIES)/look-ham10000.md
	$(BIN)/python benchmarks/look_study.py nih_cxr14_256 $(DATA)/nih_cxr14_256 $(STUDIES)/look/nih_cxr14_256 \
		--table $(STUDIES)/look-nih.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/look_shortcut.py $(STUDIES)/look/shortcut --table $(STUDIES)/look-shortcut.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/look_shortcut.py $(STUDIES)/look/shortcut-7 --seed 7 \
		--table $(STUDIES)/look-shortcut-7.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/look_3d_study.py $(DATA)/adrenalmnist3d $(STUDIES)/look/adrenal \
		--table $(STUDIES)/look-3d.md

# Six arms over a real Ray cluster of two nodes on this machine, one worker killed; fails where a bit differs.
study-ray: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ray_kill.py --table $(STUDIES)/ray-kill.md

study-kills: setup
	$(BIN)/python benchmarks/killed_runs.py $(STUDIES)/kills

# Each published ratio once more, in a quick size; fails where one is worse than benchmarks/ratios.json by more than 10%
# beyond the A/A spread. No seconds are judged. The targets below measure at full size and write dated tables.
bench: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gate.py

bench-flatness: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/flatness_cost.py --table $(STUDIES)/flatness-cost.md

bench-step: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/step_speed.py --table $(STUDIES)/step-speed.md

bench-input: setup
	$(BIN)/python benchmarks/input_cost.py --arm --arm augment --arm heavy_augment
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/input_peer.py --table $(STUDIES)/input-peer.md
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/cache_build.py --table $(STUDIES)/cache-build.md
	$(BIN)/python benchmarks/input_memory.py --table $(STUDIES)/input-memory.md

# Gradients and metrics of 2 and 4 gloo processes beside one.
bench-ranks: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ranks.py --table $(STUDIES)/ranks.md

# Everything of a study but training: reading, auditing, splitting, estimates, comparison.
bench-untrained: setup
	$(BIN)/python benchmarks/no_training.py --data $(DATA)

bench-smote: setup
	$(BIN)/python benchmarks/smote.py --table $(STUDIES)/smote.md

# Made-up scores over the real table of labels, at full size.
study-nih-score: setup
	$(BIN)/python benchmarks/nih_score.py $(DATA) --table $(STUDIES)/nih-score.md

bench-bootstrap: setup
	$(BIN)/python benchmarks/bootstrap_speed.py --table $(STUDIES)/bootstrap.md

bench-score: setup
	$(BIN)/python benchmarks/score_speed.py --table $(STUDIES)/score.md

bench-heads: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/heads.py --table $(STUDIES)/heads.md

# Maps of all classes over a plain forward pass, beside Captum's one call a class.
bench-saliency: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/saliency_cost.py --table $(STUDIES)/saliency-cost.md

bench-dissection: setup
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/dissection_cost.py --table $(STUDIES)/dissection-cost.md

# Each mutant must be noticed by a test, or its survival be explained in benchmarks/mutants*.yaml.
mutants: setup
	$(BIN)/python benchmarks/mutants.py --table docs/results/$$(date +%F)-mutants.md

mutants-look: setup
	$(BIN)/python benchmarks/mutants.py --room explain --table docs/results/$$(date +%F)-mutants-look.md

clean:
	rm -rf $(VENV) demo
