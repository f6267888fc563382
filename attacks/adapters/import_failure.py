"""What to do about a user's module that can't be imported."""


def how_to_mend(error: BaseException, module_name: str) -> str:
    """A clause: the module is not there, another one that it needs is not, or its own code fails."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None:
        run = module_name if module_name.endswith(".py") else f"-c 'import {module_name}'"
        return f"python {run} shows the whole error"
    if module_name == missing or module_name.startswith(f"{missing}."):
        return "it must be installed or lie in the current folder"
    return f"install {missing}, which it needs"
