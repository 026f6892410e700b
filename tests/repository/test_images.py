"""What images.json says, what is generated from it, and when an image is built anew."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "containers"))

import build  # noqa: E402
import images  # noqa: E402
import publish  # noqa: E402
import sbom  # noqa: E402


def test_containers_config_is_fresh():
    assert (ROOT / "conf/generated/containers.config").read_text() == images.containers_config(), "run `make docs`"


def test_versions_are_the_packages_own():
    version = tomllib.loads((ROOT / "python/pyproject.toml").read_text())["project"]["version"]
    assert {image.version for image in images.read_images()} == {version}


def test_an_unknown_image_is_named():
    with pytest.raises(images.ImageError, match=r"^imodd: no such image; allowed: native "):
        images.read_images("nma imodd")


def packages(lock: Path) -> dict[str, str]:
    """Package and version -> its hashes."""
    text = re.sub(r"^ *#.*\n", "", lock.read_text(), flags=re.M)
    blocks = re.split(r"\n(?=\S)", text.strip())
    return {block.split()[0]: " ".join(sorted(re.findall(r"sha256:\w+", block))) for block in blocks}


@pytest.mark.parametrize("name", ["native", "nma", "tetris"])
def test_locks_are_parts_of_the_projects_own(name):
    whole, part = packages(ROOT / "python/requirements.lock"), packages(ROOT / "containers" / name / "requirements.lock")
    assert len(part) > 20
    assert part.items() <= whole.items(), "run `make lock`"
    assert not any(one.startswith(("pytest", "mypy", "ruff")) for one in part)


def test_what_the_smoke_scripts_take_of_the_package_is_there():
    """An image is tried at the end of its build, minutes after a renamed function could have been told."""
    taken = 0
    for script in sorted((ROOT / "containers").glob("*/smoke.sh")):
        for program in re.findall(r"<<'PYTHON'\n(.*?)^PYTHON$", script.read_text(), re.M | re.S):
            for node in ast.walk(ast.parse(program)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("template_learning"):
                    exec(ast.unparse(node), {})
                    taken += 1
    assert taken > 5


@pytest.mark.long
def test_the_smoke_scripts_call_the_package_as_it_is(tmp_path):
    """By their types: arguments, attributes and classes; the programs that they try are not here."""
    for script in sorted((ROOT / "containers").glob("*/smoke.sh")):
        for number, program in enumerate(re.findall(r"<<'PYTHON'\n(.*?)^PYTHON$", script.read_text(), re.M | re.S)):
            (tmp_path / f"{script.parent.name.replace('-', '_')}_{number}.py").write_text(program)
    mypy = [sys.executable, "-m", "mypy", "--config-file", ROOT / "python/pyproject.toml", "--cache-dir", tmp_path / "cache"]
    checked = subprocess.run(
        [*mypy, "--ignore-missing-imports", *tmp_path.glob("*.py")], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert checked.returncode == 0, checked.stdout


@pytest.fixture
def copy_of_recipe(tmp_path, monkeypatch):
    """A small repository with one image."""
    folder = tmp_path / "containers/small"
    folder.mkdir(parents=True)
    (tmp_path / "python/src").mkdir(parents=True)
    (tmp_path / "python/src/code.py").write_text("one = 1\n")
    (tmp_path / "containers/smoke.sh").write_text("true\n")
    (folder / "smoke.sh").write_text("true\n")
    (folder / "lock").write_text("one==1\n")
    (folder / "Containerfile").write_text("FROM a\nCOPY --from=a /x /y\nCOPY \\\n  containers/small/lock /lock\n")
    (tmp_path / "containers/Containerfile").write_text("FROM a\nCOPY python/src \\\n  /src\n")
    for name in ("base", "tools"):
        (tmp_path / "containers" / name).mkdir()
        (tmp_path / "containers" / name / "Containerfile").write_text("FROM a\n")
    for module in (images, build):
        monkeypatch.setattr(module, "ROOT", tmp_path)
        monkeypatch.setattr(module, "FOLDER", tmp_path / "containers")
    monkeypatch.setattr(images.copied, "__defaults__", (tmp_path,))
    image = images.Image("small", "1.0", "", "", "", (), None, True, "base", (), None, None)
    monkeypatch.setattr(build, "read_images", lambda _: [image])
    return tmp_path, lambda digest="sha256:1": build.key_of(image, digest)


def test_the_key_follows_all_that_an_image_is_made_of(copy_of_recipe):
    folder, key = copy_of_recipe
    first = key()
    seen = {first, key("sha256:2")}
    recipes = [f"containers/{name}Containerfile" for name in ("", "small/", "base/", "tools/")]
    for path in (*recipes, "python/src/code.py", "containers/small/lock", "containers/small/smoke.sh", "containers/smoke.sh"):
        with (folder / path).open("a") as handle:
            handle.write("# more\n")
        seen.add(key())
    (folder / "python/src/more.py").write_text("")
    seen.add(key())
    (folder / "python/src/more.py").chmod(0o755)
    seen.add(key())
    assert len(seen) == 12


def test_the_key_follows_the_compression_which_is_one_of_two(copy_of_recipe, monkeypatch):
    _, key = copy_of_recipe
    first = key()
    monkeypatch.setenv("IMAGE_COMPRESSION", "zstd")
    assert key() != first
    monkeypatch.setenv("IMAGE_COMPRESSION", "lzo")
    with pytest.raises(images.ImageError, match="gzip or zstd was expected"):
        key()


def test_the_package_itself_counts_for_an_image_and_not_for_its_packages(copy_of_recipe):
    folder, key = copy_of_recipe
    before = build.packages_key("small", "sha256:1"), key()
    with (folder / "python/src/code.py").open("a") as handle:
        handle.write("# more\n")
    after = build.packages_key("small", "sha256:1"), key()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_what_an_image_shares_with_the_one_it_is_put_on_is_locked_alike():
    """So that it is not installed a second time."""
    compared = 0
    for image in images.read_images():
        assert (ROOT / "containers" / image.parent / "Containerfile").is_file()
        ours, theirs = (images.FOLDER / name / "requirements.lock" for name in (image.name, image.parent))
        if ours.is_file() and theirs.is_file():
            names = {one.split("==")[0] for one in packages(ours)} & {one.split("==")[0] for one in packages(theirs)}
            ours, theirs = ({one for one in packages(lock) if one.split("==")[0] in names} for lock in (ours, theirs))
            assert ours == theirs, image.name
            compared += len(names)
    assert compared > 80


def test_the_key_follows_the_recipes_arguments(copy_of_recipe, monkeypatch):
    _, key = copy_of_recipe
    first = key()
    monkeypatch.setenv("BUILD_ARGS", "IMOD_SHA256=abc OTHER=2")
    assert build.build_arguments() == ["IMOD_SHA256=abc", "OTHER=2"]
    assert key() != first
    monkeypatch.setenv("BUILD_ARGS", "IMOD_SHA256")
    with pytest.raises(images.ImageError, match="NAME=value was expected"):
        key()


def test_the_key_leaves_out_what_python_leaves_behind(copy_of_recipe):
    folder, key = copy_of_recipe
    first = key()
    (folder / "python/src/__pycache__").mkdir()
    (folder / "python/src/__pycache__/code.pyc").write_text("x")
    (folder / "python/src/.ruff_cache").mkdir()
    (folder / "python/src/.ruff_cache/0").write_text("x")
    (folder / "README.md").write_text("not copied")
    assert key() == first


def test_a_missing_file_is_named(copy_of_recipe):
    folder, key = copy_of_recipe
    shutil.rmtree(folder / "python/src")
    with pytest.raises(images.ImageError, match="python/src is copied but does not exist"):
        key()


def test_recipes_copy_only_what_is_there():
    for image in images.read_images():
        files = images.copied(image.recipe)
        assert images.locked(image) in files or not images.locked(image).is_file()
    assert ROOT / "python/pyproject.toml" in images.copied(images.FOLDER / "Containerfile")


def test_a_release_writes_its_digests_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "FOLDER", tmp_path)
    monkeypatch.setattr(publish, "BUILT", tmp_path)
    shutil.copy(ROOT / "containers/images.json", tmp_path)
    before = json.loads((tmp_path / "images.json").read_text())
    for _again in range(2):
        publish.record(
            {name: {"oci_digest": f"sha256:{name}", "sif_sha256": f"{name}-sif"} for name in ("nma", "tetris")}, True
        )
    after = json.loads((tmp_path / "images.json").read_text())
    for name in ("nma", "tetris"):
        before[name] |= {"oci_digest": f"sha256:{name}", "sif_sha256": f"{name}-sif"}
    assert after == before
    assert len((tmp_path / "images.json").read_text().splitlines()) == len(
        (ROOT / "containers/images.json").read_text().splitlines()
    )


def test_digests_pin_the_registrys_images(monkeypatch):
    pinned = [
        images.Image(**{**vars(image), "oci_digest": "sha256:abc"}) if image.name == "tetris" else image
        for image in images.read_images()
    ]
    monkeypatch.setattr(images, "read_images", lambda: pinned)
    assert "digests: ['tetris': 'sha256:abc']" in images.containers_config()


def test_a_bill_of_materials_escapes_what_package_addresses_need():
    inventory = {
        "debian": [{"name": "g++", "version": "4:12.2+b1", "architecture": "amd64"}],
        "python": [{"name": "typing_extensions", "version": "4.16.0", "licence": "PSF-2.0"}],
    }
    bill = sbom.bill_of_materials(images.read_images("tetris")[0], json.dumps(inventory))
    assert [one["purl"] for one in bill["components"]] == [
        "pkg:deb/debian/g%2B%2B@4%3A12.2%2Bb1?arch=amd64",
        "pkg:pypi/typing-extensions@4.16.0",
    ]
