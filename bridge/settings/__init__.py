"""Connection settings: named profiles, one active, secrets encrypted, taken over while running.

`profile` is the model, `key_file` and `cipher` keep the secrets, `repository` stores,
`desk` joins them and hands changes to whom they concern, `probe` tries settings without touching
the running session, `command` is `python -m bridge settings`.
"""
