import pytest

from llava_som import doctor


def test_a_missing_package_gets_its_whole_pip_line(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "OPTIONAL_PACKAGES", {"no_such_kernel": ("no-such-kernel", "flash", "speed")})
    monkeypatch.setenv("COLUMNS", "200")
    doctor.print_report()
    line = next(line for line in capsys.readouterr().out.splitlines() if "no-such-kernel" in line)
    assert "missing (speed)" in line
    assert "pip install 'llava_som[flash]'" in line


@pytest.mark.parametrize("topic", ["python", "CPU", "GPU", "torch", "attention sdpa", "attention flash_attention_2"])
def test_what_every_report_tells(topic):
    assert any(finding.topic.startswith(topic) and finding.found for finding in doctor.examine())
