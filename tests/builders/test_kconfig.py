"""kernel.config: what fragments ask for, they get, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders.conftest import TINYLINUX, Built, Step


class Config:
    """Configures the tiny tree with fragments given as text."""

    def __init__(self, step: Step, folder: Path) -> None:
        self._step = step
        self._folder = folder

    def make(
        self, *fragments: str, base: str = "allnoconfig", version: str = "1.0.0", file: str = ""
    ) -> Built:
        inputs = {"tree": TINYLINUX}
        for number, text in enumerate(fragments):
            name = f"fragment-{number:02}-part{number}.config"
            inputs[name] = self._folder / name
            inputs[name].write_text(text)
        if base == "file":
            inputs["base"] = self._folder / "base"
            inputs["base"].write_text(file)
        return self._step.run(inputs, {"BASE": base, "VERSION": version})


@pytest.fixture
def config(configure: Step, tmp_path: Path) -> Config:
    return Config(configure, tmp_path)


def lines(built: Built) -> list[str]:
    return built.out.read_text().splitlines()


def explained(built: Built) -> str:
    """The reason in full, after checking that it is a dropped symbol of the first fragment."""
    assert built.exit_status == 1
    assert (built.report["code"], built.report["input"]) == ("config-dropped", "fragment-00-part0.config")
    return "\n".join(built.report["details"])


def test_the_final_config_holds_what_was_asked_for(config: Config) -> None:
    built = config.make(
        'CONFIG_BUS=y\nCONFIG_NET=y\nCONFIG_GREETING="a = b # c"\nCONFIG_PORT=0x2F8\nCONFIG_REPEAT=3\n'
    )
    asked = {"CONFIG_BUS=y", "CONFIG_NET=y", 'CONFIG_GREETING="a = b # c"', "CONFIG_REPEAT=3"}
    assert asked <= set(lines(built))


def test_comments_spaces_and_order_change_nothing(config: Config) -> None:
    first = config.make("CONFIG_BUS=y\nCONFIG_NET=y\n# CONFIG_HELLO is not set\n")
    second = config.make("# why\n\nCONFIG_NET=y   \n# CONFIG_FOO=y, perhaps later\n", "CONFIG_BUS=y\n")
    assert first.out.read_bytes() == second.out.read_bytes()


def test_a_later_fragment_wins(config: Config) -> None:
    built = config.make("CONFIG_BUS=y\nCONFIG_FOR_SIZE=y\n", "# CONFIG_BUS is not set\nCONFIG_FOR_SPEED=y\n")
    assert "# CONFIG_BUS is not set" in lines(built)
    assert "CONFIG_FOR_SPEED=y" in lines(built)


def test_without_fragments_the_base_decides(config: Config) -> None:
    assert "CONFIG_NET=y" in lines(config.make(base="x86_64_defconfig"))


def test_a_base_may_be_a_file_and_lose_symbols(config: Config) -> None:
    built = config.make(
        "CONFIG_NET=y\n", base="file", file="CONFIG_BUS=y\nCONFIG_GONE=y\n# CONFIG_NET is not set\n"
    )
    assert {"CONFIG_BUS=y", "CONFIG_NET=y"} <= set(lines(built))


@pytest.mark.parametrize("base", ["../../etc/x", "all"])
def test_a_base_must_be_a_config_target(config: Config, base: str) -> None:
    assert config.make(base=base).report["code"] == "recipe-invalid"


def test_a_base_that_the_tree_does_not_have_fails_in_make(config: Config) -> None:
    built = config.make(base="odd_defconfig")
    assert (built.exit_status, built.report) == (1, {})
    assert "odd_defconfig" in built.log


def test_the_version_must_be_the_sources(config: Config) -> None:
    built = config.make(version="1.0.1")
    assert built.report["code"] == "version-mismatch"
    assert "1.0.1" in built.report["message"]
    assert "1.0.0" in built.report["message"]


@pytest.mark.parametrize("line", ["CONFIG_BUS", "BUS=y", "CONFIG_BUS =y", "CONFIG_BUS=", "<<<<<<< ours"])
def test_a_line_that_is_none_is_refused(config: Config, line: str) -> None:
    built = config.make("CONFIG_BUS=y\n", f"# fine\n{line}\n")
    assert built.report["code"] == "recipe-invalid"
    assert (built.report["input"], built.report["line"]) == ("fragment-01-part1.config", 2)


def test_one_fragment_may_not_contradict_itself(config: Config) -> None:
    built = config.make("CONFIG_BUS=y\nCONFIG_NET=y\nCONFIG_BUS=y\n# CONFIG_BUS is not set\n")
    assert (built.report["code"], built.report["line"]) == ("recipe-invalid", 4)


@pytest.mark.parametrize("line", ["CONFIG_NET_DRVER=y", "# CONFIG_NET_DRVER is not set"])
def test_an_unknown_symbol_gets_close_ones(config: Config, line: str) -> None:
    built = config.make(f"CONFIG_BUS=y\n{line}\n")
    assert (built.report["code"], built.report["line"]) == ("config-unknown", 2)
    assert "CONFIG_NET_DRIVER" in built.report["hint"]


def test_a_dropped_symbol_shows_the_chain_of_what_it_needs(config: Config) -> None:
    text = explained(config.make("CONFIG_NET_FAST_PATH=y\n"))
    at = [
        text.index("part0.config:1: 'CONFIG_NET_FAST_PATH=y' was asked for"),
        text.index("needs NET_DRIVER"),
    ]
    assert at == sorted(at)


def test_each_term_that_is_not_met_is_followed(config: Config) -> None:
    text = explained(config.make("CONFIG_NET_DRIVER=y\nCONFIG_FOR_SIZE=y\n"))
    assert "needs CONFIG_NET, which is n" in text
    assert "needs CONFIG_BUS, which is n" in text
    assert "CONFIG_BUS can be switched on: add CONFIG_BUS=y" in text
    assert (
        "needs CONFIG_FOR_SIZE off, which is y (fragment-00-part0.config:2 asks for 'CONFIG_FOR_SIZE=y')"
        in text
    )


DRIVER = "CONFIG_BUS=y\nCONFIG_NET=y\nCONFIG_FOR_SPEED=y\nCONFIG_NET_DRIVER=y\n"
REASONS = {
    "selected": (DRIVER + "# CONFIG_CHECKSUM is not set\n", "selected by CONFIG_NET_DRIVER, which is y"),
    "no prompt": ("CONFIG_HIDDEN=y\n", "CONFIG_HIDDEN has no prompt"),
    "choice": (
        "CONFIG_FOR_SPEED=y\nCONFIG_FOR_SIZE=y\n",
        "of 'What matters most', CONFIG_FOR_SIZE was taken",
    ),
    "all off": (
        "# CONFIG_FOR_SPEED is not set\n# CONFIG_FOR_SIZE is not set\n",
        "is what is left of the choice 'What matters most'",
    ),
    "range": ("CONFIG_HELLO=y\nCONFIG_REPEAT=10\n", "must lie between 1 and 9"),
    "type": ("CONFIG_BUS=m\n", "CONFIG_BUS is a bool and cannot be m"),
    "text": ("CONFIG_GREETING=y\n", "CONFIG_GREETING is a string"),
    "no modules": ("CONFIG_HELLO=m\n", "CONFIG_MODULES is n"),
    "compiler": ("CONFIG_NEEDS_TOOL=y\n", "a check of the compiler"),
}


@pytest.mark.parametrize("case", REASONS)
def test_the_reason_is_given(config: Config, case: str) -> None:
    fragment, reason = REASONS[case]
    assert reason in explained(config.make(fragment))


def test_every_problem_is_listed_and_the_first_leads(config: Config) -> None:
    built = config.make("CONFIG_BUS=y\nCONFIG_REPEAT=10\n", "CONFIG_ODD=y\nCONFIG_HIDDEN=y\n")
    assert built.report["code"] == "config-dropped"
    assert "CONFIG_REPEAT" in built.report["message"]
    assert "2 more" in built.report["message"]
    heads = [line for line in built.report["details"] if not line.startswith(" ")]
    assert [head.split(":")[0:2] for head in heads] == [
        ["fragment-00-part0.config", "2"],
        ["fragment-01-part1.config", "1"],
        ["fragment-01-part1.config", "2"],
    ]


def test_what_a_later_fragment_takes_back_is_not_missed(config: Config) -> None:
    assert "CONFIG_REPEAT=2" in lines(config.make("CONFIG_REPEAT=10\n", "CONFIG_REPEAT=2\n"))


def test_modules_may_be_asked_for(config: Config) -> None:
    assert "CONFIG_HELLO=m" in lines(config.make("CONFIG_MODULES=y\nCONFIG_HELLO=m\n"))
