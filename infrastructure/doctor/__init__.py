"""`doctor`: checks, each with its mend. A check is pure: evidence to findings.

`evidence` collects, `host_checks` and `stack_checks` judge, `bundle` packs it for a bug report.
"""
