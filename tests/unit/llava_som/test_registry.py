import sys

import pytest

from llava_som.registry import Registry, closest_match_message


@pytest.fixture
def plugin_package(tmp_path, monkeypatch):
    """A real package of plug-ins on disk: one that works, one that cannot be imported."""
    folder = tmp_path / "plugins_for_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "broken.py").write_text("import a_package_nobody_has\n")
    (folder / "good.py").write_text(
        "from test_registry_host import THINGS\n\n@THINGS.register('good')\nclass Good:\n    pass\n"
    )
    (tmp_path / "test_registry_host.py").write_text(
        "from llava_som.registry import Registry\nTHINGS = Registry('thing', package='plugins_for_test')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import test_registry_host

    yield test_registry_host.THINGS
    for name in [name for name in sys.modules if name.startswith(("plugins_for_test", "test_registry_host"))]:
        del sys.modules[name]


def test_discovers_on_first_lookup(plugin_package):
    assert plugin_package.names() == ["good"]
    assert plugin_package.get("good").__name__ == "Good"


def test_unknown_name_gives_the_closest_match_and_the_failed_imports(plugin_package):
    with pytest.raises(ValueError, match=r"Unknown thing 'god'\. Did you mean 'good'\?") as error:
        plugin_package.get("god")
    assert "plugins_for_test.broken" in str(error.value)
    assert "a_package_nobody_has" in str(error.value)


def test_a_name_cannot_be_taken_twice():
    registry = Registry("thing", package="llava_som")
    registry.register("x")(int)
    with pytest.raises(ValueError, match="'x' is registered twice"):
        registry.register("x")(str)


def test_message_without_a_close_name_lists_what_is_allowed():
    assert closest_match_message("task", "zzz", ["pope", "mme"]) == "Unknown task 'zzz'. Allowed: mme, pope."


def test_a_name_or_options_by_name_stand_for_a_plug_in(plugin_package):
    given = {"type": "good", "size": 3}
    assert plugin_package.named("good") == {"type": "good"}
    assert plugin_package.resolve(given) == (plugin_package.get("good"), {"size": 3})
    assert given == {"type": "good", "size": 3}
    for wrong in ({"size": 3}, ["good"], {"type": None}):
        with pytest.raises(ValueError, match=r"thing=.* has no type\. .* Names: good"):
            plugin_package.resolve(wrong)
