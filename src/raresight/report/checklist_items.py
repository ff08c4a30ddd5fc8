"""What three reporting guidelines ask for, each item in a few words of ours, and where this report may answer it.

Item numbers of TRIPOD+AI and STARD-AI were compared with copies of the published tables (both CC BY) that others keep;
we did not have the articles themselves. Numbers of CLAIM 2024 could not be verified, so its items stand by topic. The
wording is ours throughout and shorter than theirs: for a submission, fill in the official forms.

Source: Collins et al., BMJ 385 (2024) e078378 (TRIPOD+AI); Sounderajah et al., Nature Medicine 31 (2025) 3283
(STARD-AI); Tejani et al., Radiology: Artificial Intelligence 6 (2024) e240300 (CLAIM 2024 update).
"""

from __future__ import annotations

from typing import NamedTuple


class Item(NamedTuple):
    """`number` blank where not verified; `evidence` names what may answer it, blank where nothing in a study can."""

    number: str
    topic: str
    evidence: str
    ask: str


ETHICS = "Name the committee, its decision and number, and how patients consented or why they did not have to."
FUNDING = "Who paid, and what part the payer had."
PROTOCOL = "Where the protocol can be read, or that there is none. The frozen plan of the test opening may serve."
REGISTRY = "Register and number, or that the study was not registered."
SHARING = "Who can get the data, the code and the weights, and under which conditions."
STANDARD = "How the true label was found (biopsy, consensus, report), by whom, and why this way."
BLIND = "Whether those who set the labels knew what the model said, or the other way round."
DEVICES = "Makers and models of the cameras or scanners, and how images were taken."
FAIR = "What was done about fairness, for whom, and why; or that nothing was."
CONTEXT = "The clinical question, what is done today, and which models exist already."
USE = "For which patients, at which step of care, in whose hands; what the alarm leads to."
SETTING = "Which hospitals or practices, how many, where, and from when to when."
ELIGIBLE = "Who could be in the data set and who could not, for patients and for images."
SIZE = "Why so many patients, and why they are enough; the forecast of this report may be quoted."

TRIPOD = (
    Item("1", "Title: a prediction model is developed or evaluated, in whom, for what", "", "Write the title."),
    Item("2", "Structured abstract", "", "Write it, after the guideline's own list for abstracts."),
    Item("3a", "Clinical background and earlier models", "", CONTEXT),
    Item("3b", "People it is meant for, purpose, users", "intended_use", USE),
    Item("3c", "Known inequalities of health between groups", "", "What is known for this disease and these people."),
    Item("4", "Aims: development, evaluation or both", "", "State the aims."),
    Item("5a", "Where the data come from, and how representative they are", "", "Source, reason, representativeness."),
    Item("5b", "Dates of the data", "", SETTING),
    Item("6a", "Setting and centres", "", SETTING),
    Item("6b", "Who was eligible", "", ELIGIBLE),
    Item("6c", "Treatments", "", "Treatment before the images were taken, or that it does not matter here."),
    Item("7", "Preparing and checking the data", "prepared", "Steps from the raw image to the model, and checks made."),
    Item("8a", "What is predicted, how and when it was assessed", "", STANDARD),
    Item("8b", "Who assessed it, where that takes judgement", "", "Training and experience of whoever set the labels."),
    Item("8c", "Blinding of that assessment", "", BLIND),
    Item("9a", "How predictors were chosen", "image_only", "Which inputs were considered, and why."),
    Item("9b", "What the predictors are and how they were measured", "", DEVICES),
    Item("9c", "Who assessed predictors, where that takes judgement", "image_only", "Their training and experience."),
    Item("10", "Study size", "forecast", SIZE),
    Item("11", "Missing data", "set_aside", "What was missing, what was done about it, what was left out and why."),
    Item("12a", "How the data were divided for analysis", "split", "Shares, unit and reason of the division."),
    Item("12b", "How predictors were transformed", "prepared", "Size, scaling and normalisation of images."),
    Item("12c", "Kind of model, how it was built, checked inside", "training", "Network, methods, settings, choice."),
    Item("12d", "Differences between clusters such as hospitals", "clusters", "Whether results differ between sites."),
    Item("12e", "Measures and plots of performance", "measures", "Which measures, and why these."),
    Item("12f", "Updating the model in the evaluation", "no_updating", "Any recalibration made for these patients."),
    Item("12g", "How predictions were computed", "computed", "Code, weights or interface that made the predictions."),
    Item("13", "Class imbalance: what was done, and recalibration after it", "imbalance", "Methods against imbalance."),
    Item("14", "Fairness: what was done and why", "", FAIR),
    Item("15", "What the model puts out, and how thresholds were found", "thresholds", "Output, thresholds, reasons."),
    Item("16", "Differences between development and evaluation data", "people", "In setting, eligibility, labels."),
    Item("17", "Ethics approval and consent", "", ETHICS),
    Item("18a", "Funding", "", FUNDING),
    Item("18b", "Conflicts of interest", "", "Of every author."),
    Item("18c", "Protocol", "", PROTOCOL),
    Item("18d", "Registration", "", REGISTRY),
    Item("18e", "Sharing of data", "", SHARING),
    Item("18f", "Sharing of code", "", SHARING),
    Item("19", "Part that patients and the public had", "", "What they did in the study, or that they had no part."),
    Item("20a", "Flow of participants, with and without the outcome", "flow", "A diagram from read to used."),
    Item("20b", "Characteristics of participants", "", "Beyond the columns shown: disease, treatment, missing data."),
    Item("20c", "Development and evaluation data compared", "people", "Demographics and outcome side by side."),
    Item("21", "Participants and outcomes in each analysis", "flow", "Numbers in training, tuning and evaluation."),
    Item("22", "The full model, so that others can use it", "", "Where the weights or the bundle can be had"),
    Item("23a", "Performance with intervals, subgroups included", "subgroup_figures", "Figures by key subgroup."),
    Item("23b", "Performance across clusters", "clusters", "Figures by hospital or country."),
    Item("24", "Results of updating", "no_updating", "The updated model and its performance."),
    Item("25", "Interpretation", "", "What the results mean, fairness and earlier studies included."),
    Item("26", "Limitations", "limitations", "Discuss them; those that the files show are a beginning."),
    Item("27a", "Poor or missing input in use", "", "What is done with a bad image, and who notices."),
    Item("27b", "What users must do and know", "", "Their part in taking images and using the model, and training."),
    Item("27c", "Next steps", "", "What is needed before use elsewhere."),
)  # fmt: skip

STARD = (
    Item("1", "Title or abstract: accuracy of an AI test, with a measure of it", "", "Write the title."),
    Item("2", "Structured abstract", "", "Write it, after the guideline's own list for abstracts."),
    Item("3", "Background, intended use, place in the workflow", "intended_use", USE),
    Item("4", "Objectives and hypotheses", "", "State them."),
    Item("5", "Data collected before or after the tests were planned", "", "Prospective or retrospective."),
    Item("6", "Ethics approval", "", ETHICS),
    Item("7", "Eligibility of participants and of data", "", ELIGIBLE),
    Item("8", "How participants were found", "", "By symptoms, earlier tests, a register."),
    Item("9", "Where and when", "", SETTING),
    Item("10", "Consecutive, random or convenience series", "", "Say which."),
    Item("11", "Source of the data", "", "Routine care, collected for this study, or a public collection."),
    Item("12", "Who annotated, and how", "", STANDARD),
    Item("13", "Devices and software", "software", DEVICES),
    Item("14", "Taking and preparing the images", "prepared", DEVICES),
    Item("15a", "The index test, so that it can be repeated", "training", "Model, weights, settings and versions."),
    Item("15b", "How it was developed, with sample sizes", "split", "Training, validation and test, with numbers."),
    Item("15c", "Cut-offs, set beforehand or exploratory", "thresholds", "Thresholds, their reason, and when chosen."),
    Item("15d", "Users and the expertise that they need", "", USE),
    Item("16a", "The reference standard, so that it can be repeated", "", STANDARD),
    Item("16b", "Why this reference standard", "", STANDARD),
    Item("16c", "Its cut-offs", "", "How a case became positive by the reference standard."),
    Item("17a", "What readers of the index test knew", "image_reader", BLIND),
    Item("17b", "What assessors of the reference standard knew", "", BLIND),
    Item("18", "Statistical methods", "measures", "How accuracy and its intervals were computed."),
    Item("19", "Indeterminate results", "decided", "What became of cases without a clear answer."),
    Item("20", "Missing results", "set_aside", "What became of cases without image or label."),
    Item("21", "Variability of accuracy", "variability", "Over seeds, readers, sites or groups."),
    Item("22", "Sample size", "forecast", SIZE),
    Item("23", "Errors, bias and fairness: methods", "subgroup_figures", FAIR),
    Item("24", "Flow of participants", "flow", "A diagram."),
    Item("25", "Characteristics of training, validation and test sets", "people", "Demographic, clinical, technical."),
    Item("26a", "Severity of disease in those with it", "", "Stage, size or type of the disease."),
    Item("26b", "Other diagnoses in those without it", "other_diagnoses", "Which other diagnoses, and how many."),
    Item("27", "Time and treatment between the two tests", "", "How long, and what happened in between."),
    Item("28", "Whether the test set is like the people meant", "", "Compare prevalence and mix with those in use."),
    Item("29", "How external data differ", "external", "There must be external data first."),
    Item("30", "Index test against reference standard, counted", "confusion", "The table of counts."),
    Item("31", "Accuracy with its precision", "intervals", "Estimates with 95% intervals."),
    Item("32", "Harm done by the tests", "", "Any adverse event, or that none was recorded."),
    Item("33", "Limitations", "limitations", "Discuss them; those that the files show are a beginning."),
    Item("34", "What follows for practice", "", USE),
    Item("35", "Ethics and fairness of using it", "", FAIR),
    Item("36", "Registration", "", REGISTRY),
    Item("37", "Protocol", "", PROTOCOL),
    Item("38", "Funding", "", FUNDING),
    Item("39", "Commercial interests", "", "Of every author and of the makers."),
    Item("40a", "Data and code", "", SHARING),
    Item("40b", "Outputs kept, and open to audit", "kept", "Where predictions are kept, and who may look."),
)  # fmt: skip

CLAIM = (
    Item("", "Title: AI, and of which kind", "", "Write the title."),
    Item("", "Structured abstract", "", "Write it."),
    Item("", "Background and clinical role", "intended_use", USE),
    Item("", "Aims and hypotheses", "", "State them."),
    Item("", "Prospective or retrospective", "", "Say which."),
    Item("", "Goal of the study", "", "Feasibility, a model, non-inferiority, or other."),
    Item("", "Data sources", "", "Source, with a link where it is public."),
    Item("", "Inclusion and exclusion", "", ELIGIBLE),
    Item("", "Preprocessing", "prepared", "Steps from the raw image to the model."),
    Item("", "Choice of subsets of the data", "set_aside", "What was taken out of the images, by whom."),
    Item("", "De-identification", "", "Method, and the law that it satisfies."),
    Item("", "Missing data", "set_aside", "What was missing, and what was done about it."),
    Item("", "How images were acquired", "", DEVICES),
    Item("", "Definition of the reference standard", "", STANDARD),
    Item("", "Why this reference standard", "", STANDARD),
    Item("", "Annotators", "", "Their number, training and experience."),
    Item("", "How the test part was annotated", "", "Tools, rules and versions."),
    Item("", "Agreement of annotators", "", "Variability within and between them, and how they settled it."),
    Item("", "Assignment to partitions", "split", "Shares, reason, and what was done about imbalance."),
    Item("", "Level at which partitions are disjoint", "disjoint", "Patient, examination or image."),
    Item("", "Size of the test part", "forecast", SIZE),
    Item("", "Architecture of the model", "architecture", "Network, inputs and outputs."),
    Item("", "Software and versions", "software", "Libraries with versions."),
    Item("", "Initialisation and transfer", "initialised", "Random or pretrained, and on what."),
    Item("", "Training: augmentation, settings, stopping", "training", "All of them."),
    Item("", "Choice of the final model", "selection", "By which measure, on which part."),
    Item("", "Ensembles", "no_ensemble", "Members, and how they are combined."),
    Item("", "Measures of performance", "measures", "Which, and against which published models."),
    Item("", "Uncertainty and tests", "intervals", "Intervals, tests, correction for several comparisons."),
    Item("", "Robustness", "robust", "What was varied, and what happened."),
    Item("", "Explanations", "no_explanations", "Method, and how it was checked."),
    Item("", "Internal testing", "internal_test", "On data that no choice was made on."),
    Item("", "External testing, or why there is none", "external", "Justify its absence."),
    Item("", "Trial registration", "", REGISTRY),
    Item("", "Numbers included and excluded", "flow", "A diagram."),
    Item("", "Demographics of each partition", "people", "A table for each part."),
    Item("", "Performance in each partition and subgroup", "subgroup_figures", "Figures by key subgroup."),
    Item("", "Accuracy with intervals", "intervals", "Estimates with 95% intervals."),
    Item("", "Analysis of failures", "confusion", "Confusions, with examples."),
    Item("", "Limitations", "limitations", "Discuss them; those that the files show are a beginning."),
    Item("", "Implications for practice", "", USE),
    Item("", "Full protocol", "", PROTOCOL),
    Item("", "Software, model and data available", "", SHARING),
    Item("", "Funding", "", FUNDING),
)  # fmt: skip

GUIDELINES = (("TRIPOD+AI", TRIPOD), ("CLAIM 2024", CLAIM), ("STARD-AI", STARD))
