"""`doctor`: one small module a check, each with its mend. Checks are pure: evidence to findings.

`gather` collects the evidence, `checks.CHECKS` lists the checks in the order they are shown.
"""
