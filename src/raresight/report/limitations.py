"""What limits the study, found from its own flags, the gravest first."""

from __future__ import annotations

from raresight.report.answers import positives
from raresight.report.content import Content
from raresight.report.decision_limits import decision_limits
from raresight.report.limitation import Limitation
from raresight.report.synthetic import unsafe, warning
from raresight.report.words import class_name, listing, many, plural, unit_of

FEW_PATIENTS = 30
SMALL_IMAGE_PX = 128


def limitations(content: Content) -> list[Limitation]:
    """Everything that the artefacts themselves show to be weak; external validation is always among them."""
    found = [*_conduct(content), *_numbers(content), *_data(content)]
    return sorted(found, key=lambda one: -one.weight)


def _conduct(content: Content) -> list[Limitation]:
    found = [
        Limitation(
            "external_validation",
            60,
            f"External data of one site alone, {content.site}."
            if content.site
            else "It is not known whether these images come from another hospital than the training images."
            if content.ledger is None
            else "No external validation: every image comes from the same collection as the training images.",
            "Results usually fall at another hospital or camera. Validate the frozen model there, unchanged.",
        ),
        Limitation(
            "clinical_evaluation",
            20,
            "No clinical evaluation: nobody has used it on patients.",
            "How people act on its alarms, and what patients gain, was not studied.",
        ),
    ]
    found += _subgroups(content)
    if content.quick:
        found.append(
            Limitation("quick", 100, "A quick trial: not for conclusions.", "Small images and little training.")
        )
    if "ledger" in content.missing:
        found.append(
            Limitation(
                "ledger", 95, "The record of test openings was changed by hand.", content.missing["ledger"] + "."
            )
        )
    if content.ledger is None:
        found.append(
            Limitation(
                "unknown_choices",
                75,
                "It is not known which choices were made on these patients.",
                "Predictions were given without their study; thresholds or training may have seen these labels.",
            )
        )
    elif content.part == "val" and content.arms:
        found.append(
            Limitation(
                "validation_part",
                80,
                "Figures come from the validation part: choices were made on these patients.",
                "Checkpoints, thresholds and the recommended arm were chosen here, so the figures are optimistic.",
            )
        )
    elif content.ledger and len(content.ledger) > 1:
        found.append(
            Limitation(
                "test_reopened",
                90,
                f"The test part was opened {len(content.ledger)} times.",
                "It has become a validation part for whatever was changed in between; a fresh one is needed.",
            )
        )
    one_seed = [arm.name for arm in content.arms if len(arm.seeds) == 1 and not arm.outside]
    if one_seed and len(one_seed) == len([arm for arm in content.arms if not arm.outside]):
        found.append(
            Limitation(
                "one_seed",
                45,
                "Every arm was trained once: chance in training is not measured.",
                "Two trainings of one arm differ, often by as much as two arms do. Three seeds or more show it.",
            )
        )
    for first, second in content.inert:
        found.append(
            Limitation(
                f"inert:{first}:{second}",
                70,
                f"The arms {first} and {second} gave identical predictions: one of them did nothing.",
                "Check the settings of the methods in which they differ.",
            )
        )
    for name, row in unsafe(content):
        found.append(
            Limitation(
                f"unsafe_synthetic:{name}:{row['class']}",
                46,
                warning(name, row),
                "Such cases teach the head wrong labels. Prefer Borderline-SMOTE or repeated cases, and compare them.",
            )
        )
    if content.unfinished:
        found.append(
            Limitation(
                "unfinished",
                40,
                f"{many(len(content.unfinished), 'run')} not finished and left out.",
                f"Left out: {listing(list(content.unfinished))}.",
            )
        )
    return found


def _subgroups(content: Content) -> list[Limitation]:
    """That groups were not told apart, or which of them could not be shown."""
    rows = [e for arm in content.arms for e in arm.estimates if e.subgroup and e.metric == "recall"]
    if not rows:
        return [
            Limitation(
                "subgroups",
                18,
                "No figures by age, sex, skin type, site or device.",
                "A model can serve one group worse than another without the overall figures showing it.",
            )
        ]
    hidden = sorted({str(e.subgroup) for e in rows if e.value is None and e.class_ in content.watched})
    if not hidden:
        return []
    told = listing([name.replace("=", " ") for name in hidden[:4]]) + (" and others" if len(hidden) > 4 else "")
    return [
        Limitation(
            "subgroups_hidden",
            17,
            f"{many(len(hidden), 'group')} too small to show for some class that matters.",
            f"Not shown: {told}. Whether the model serves them is not known.",
        )
    ]


def _numbers(content: Content) -> list[Limitation]:
    arm = content.chosen
    if arm is None:
        return []
    one = unit_of(content.group_by)
    found = []
    few, blank = [], []
    for name in content.task.classes:
        recall = arm.find("recall", name)
        if recall is None or recall.value is None:
            blank.append(name)
        elif positives(recall) < FEW_PATIENTS or recall.status == "wide":
            few.append((name, positives(recall)))
    if blank:
        grave = any(name in content.watched for name in blank)
        names = listing([class_name(name) for name in blank])
        found.append(
            Limitation(
                "not_estimable",
                85 if grave else 50,
                f"Nothing can be said about {names}.",
                "There was no case to measure, or no figure was computed. The class was left out of every mean.",
            )
        )
    if few:
        grave = any(name in content.watched for name, _ in few)
        names = listing([f"{class_name(name)} ({many(n, one)})" for name, n in few])
        found.append(
            Limitation(
                "few_patients",
                65 if grave else 35,
                f"Few with the class: {names}.",
                f"Under {FEW_PATIENTS} {plural(one)} an interval is wide, and differences between arms go unseen.",
            )
        )
    found += decision_limits(content, arm)
    uncorrected = [
        a.name for a in content.arms if a.facts and a.facts.get("implied_prior", 0) is None and not a.outside
    ]
    if uncorrected:
        found.append(
            Limitation(
                "implied_prior",
                25,
                f"Probabilities of {listing(uncorrected)} are only as good as their calibration.",
                "These arms train on a changed class balance whose effect on probabilities has no closed form.",
            )
        )
    return found


def _data(content: Content) -> list[Limitation]:
    found = []
    one = unit_of(content.group_by)
    config = content.config
    if config is not None and config.data.one_image_per_patient:
        found.append(
            Limitation(
                "no_patient_ids",
                55,
                "No patient ids: every image was taken for a patient of its own.",
                "If patients have several images, parts may share patients and the intervals are too narrow.",
            )
        )
    elif one not in ("patient", "image"):
        found.append(
            Limitation(
                "group_for_patient",
                48,
                f"{plural(one).capitalize()} stand in for patients.",
                f"The split keeps {plural(one)} apart, but two of one patient may lie in different parts.",
            )
        )
    elif one == "image":
        found.append(
            Limitation(
                "group_for_patient",
                58,
                "Images stand in for patients.",
                "Images of one patient may lie in different parts, and the intervals may be too narrow.",
            )
        )
    if config is not None and config.image.size < SMALL_IMAGE_PX and config.data.images:
        found.append(
            Limitation(
                "small_images",
                42,
                f"Images were reduced to {config.image.size} × {config.image.size} pixels.",
                "Fine structures that a reader relies on are lost at this size.",
            )
        )
    leaks = content.leaks
    if leaks is not None:
        if leaks.get("patients_shared"):
            found.append(
                Limitation(
                    "leak", 99, f"{leaks['patients_shared']} {plural(one)} lie in two parts.", "The split leaks."
                )
            )
        near = leaks.get("n_near_duplicate_pairs", len(leaks.get("near_duplicate_pairs", [])))
        if near:
            found.append(
                Limitation(
                    "near_duplicates",
                    44,
                    f"{many(near, 'pair')} of nearly identical images lie in different parts.",
                    "They may be the same patient under two ids. Look at them before you trust the figures.",
                )
            )
    aside = [i for i in content.issues or () if i["level"] == "quarantine"]
    if aside:
        found.append(
            Limitation(
                "quarantine",
                15,
                f"{many(len(aside), 'entry')} of the manifest set aside by the check.",
                "They could not be read or contradicted themselves; see data/issues.jsonl.",
            )
        )
    return found
