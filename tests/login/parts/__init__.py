from tests.login.parts.controllers import controllers_missing

__all__ = ["controllers_missing"]
