"""`doctor`: checks, each with its mend. A check is pure: evidence to findings.

`evidence` collects and packs for a bug report, without what `redaction` takes out; `host_checks`
and `stack_checks` judge.
"""
