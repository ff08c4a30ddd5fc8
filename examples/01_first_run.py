"""The whole line from Python: python examples/01_first_run.py STUDY (made by `raresight init`)."""

import sys

from raresight import Study

study = Study.open(sys.argv[1])

for problem in study.check():
    print(problem["level"], problem["found"], "->", problem["remedy"])

study.split()
for row in study.audit()["classes"]:
    print(f"{row['name']:<16}{row['prevalence']:>8.2%}  {row['severity']}")

print("report:", study.run())  # trains what is missing; the test part stays shut
