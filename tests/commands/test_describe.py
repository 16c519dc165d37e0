from caffe_compat.commands.describe import main


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    path = tmp_path / "n.prototxt"
    path.write_text(r'layer { name: "a\033]0;x" type: "Input" top: "d\033[2J" input_param { shape { dim: 1 } } }')
    for form in ("text", "markdown", "json"):
        assert main([str(path), "--format", form]) == 0
        shown = capsys.readouterr().out
        assert "\033" not in shown and ("a\\x1b]0;x" in shown or "a\\u001b]0;x" in shown)
