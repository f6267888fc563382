"""Names that hold escape codes or new lines print as text; tests/reports has what reports make of them."""

from safetensors.torch import load_file, save_file


def plain(text):
    return all(character.isprintable() or character == "\n" for character in text)


def test_what_a_file_says_of_itself_is_text(csrobust, digits_erm, tmp_path):
    path = tmp_path / "own\x1b[2Jname.safetensors"
    save_file(load_file(digits_erm), path, {"recipe": "\x1b[31mred\n", "arch": "digits-cnn"})
    for arguments in (("inspect", path), ("inspect", f"{path}\x1b[31m"), ("report", "\x1b[31m")):
        answer = csrobust(*arguments)
        assert plain(answer.out + answer.err)
        assert r"\x1b[" in answer.out + answer.err


def test_a_command_to_go_on_with_is_one_line_that_a_shell_reads_back(capsys):
    from robustbench_coded.cli.run import _say_how_to_go_on
    from robustbench_coded.evaluation.options.config import EvalConfig

    _say_how_to_go_on(EvalConfig((), command=("csrobust", "eval", "a\nb c", "--overwrite")), None)
    assert capsys.readouterr().err.endswith(r"resume with: csrobust eval $'a\x0ab c'" + "\n")
