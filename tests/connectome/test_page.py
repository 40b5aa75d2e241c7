"""The page of activity, in a browser where there is one."""

import shutil
import subprocess

import numpy as np
import pytest

import brainsim as bs

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def brain(n=300, **more):
    kinds = np.array(["MN9", "sugar </script>", "ORN"])[np.arange(n) % 3]
    return bs.Connectome({"id": np.arange(n), "type": kinds, **more}, {"pre": np.arange(2), "post": np.arange(2)})


@pytest.mark.skipif(BROWSER is None, reason="no browser here")
def test_the_page_works_in_a_browser(tmp_path):
    rng = np.random.default_rng(0)
    xyz = {axis: rng.normal(size=300) for axis in "xyz"}
    times, ids = np.sort(rng.uniform(0.05, 50.0, 900)), rng.integers(0, 300, 900)
    path = bs.connectome.write_page(brain(**xyz), tmp_path / "page.html", times, ids, title="Test")
    shown = np.count_nonzero((times > 20) & (times <= 21))
    spikes = np.count_nonzero(ids % 3 == 0)
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'own'}"]
    address = f"{path.as_uri()}#t=20&type=mn9"
    got = subprocess.run([*command, "--dump-dom", address], capture_output=True, text=True, timeout=600, check=True)
    assert "Test: 300 neurons, 900 spikes</h1>" in got.stdout
    assert f"21.0 ms, {shown} spikes" in got.stdout
    assert f"100 neurons of 1 types, {spikes} spikes" in got.stdout


def test_the_page_is_one_file(tmp_path):
    path = bs.connectome.write_page(brain(), tmp_path / "page.html", [1.0], [2])  # without positions: on a disc
    text = path.read_text()
    assert text.count("</script>") == 1
    assert "http" not in text


def test_spikes_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ValueError, match="ids below 300"):
        bs.connectome.write_page(brain(), tmp_path / "page.html", [1.0], [300])
    with pytest.raises(ValueError, match=r"expected \(300, 2\)"):
        bs.connectome.write_page(brain(), tmp_path / "page.html", [1.0], [1], positions=np.zeros((3, 2)))
