"""Connection settings: named profiles, one active, secrets encrypted, taken over while running.

`profile` is the model, `cipher` and `key_file` keep the secrets, `repository` stores, `service`
joins them and hands changes to whom they concern, `probe` tries settings beside the session.
"""
