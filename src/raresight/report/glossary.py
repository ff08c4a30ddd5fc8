"""The words of the report in plain language."""

from __future__ import annotations

GLOSSARY: tuple[tuple[str, str], ...] = (
    ("Alarm", "The model says that a class may be there, and a human should look."),
    ("Arm", "One way of training, for instance with more weight on rare classes. All arms see the same patients."),
    (
        "AUROC",
        "The chance that a case with the class gets a higher score than one without. 0.5 is guessing, 1 is perfect.",
    ),
    ("Average precision", "How many alarms are right, averaged over all thresholds. Guessing gives the prevalence."),
    ("Baseline", "The arm in which nothing is done about rarity; the others are compared with it."),
    ("Calibration", "Whether a probability of 20% means that one in five has it."),
    ("Critical class", "A class that must not be missed; the people who set up the study named it."),
    ("Expected / observed", "Cases that the probabilities announce, per case there is. Above 1 the model cries wolf."),
    (
        "Holm's correction",
        "Stricter evidence is asked for when many comparisons are made, since some succeed by chance.",
    ),
    ("Interval (95%)", "A range that would hold the true figure in about 95 of 100 such studies."),
    ("Not estimable", "There is nothing to compute the figure from. It is not zero; it is unknown."),
    ("Operating point", "The thresholds above which the model raises an alarm."),
    ("Precision (PPV)", "Of 100 alarms, how many are right. It falls where the class is rarer."),
    ("Prevalence", "The share of images, or patients, that have the class."),
    ("Seed", "The starting point of the random choices in training. Another seed gives a slightly different model."),
    ("Sensitivity (recall)", "Of 100 with the class, how many are found."),
    ("Specificity", "Of 100 without the class, how many raise no alarm."),
    (
        "Severity of imbalance",
        "By prevalence: balanced from 20%, mild from 10%, moderate from 2%, severe from 0.5%, extreme below.",
    ),
    ("Test part", "Patients put aside for one final look, after every choice was made."),
    ("Validation part", "Patients on whom choices are made: when to stop, which threshold, which arm."),
    ("Wide", "The interval is too wide, or the patients too few, to conclude anything from the figure."),
)
