"""Tables of neurons and edges: what is read, what is left out and said, what is refused."""

import gzip
import json
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

import brainsim as bs
from brainsim import connectome

DATA = next((p / "shared/data" for p in Path(__file__).parents if (p / "shared/data").exists()), Path("nowhere"))
BIG = 720575940600000000  # as FlyWire's ids: beyond 2^53, where float64 holds every 128th number


def needs(*names: str) -> list[Path]:
    """Files of data that are not bundled; the test is skipped where they are missing."""
    if not all((DATA / name).exists() for name in names):
        pytest.skip("data not here")
    return [DATA / name for name in names]


def small(**rules) -> bs.Connectome:
    neurons = {
        "id": BIG + np.arange(4),
        "type": ["A", "A", "B", None],
        "side": ["L", "right", "R", ""],
        "transmitter": ["ACH", "gaba", "Glutamate", None],
        "class": ["in", "in", "out", "out"],
    }
    edges = {
        "pre": BIG + np.array([2, 0, 1, 0, 1, 3]),
        "post": BIG + np.array([0, 3, 1, 1, 2, 0]),
        "count": [7, 1, 2, 3, 4, 5],
    }
    return bs.Connectome(neurons, {k: np.asarray(v) for k, v in edges.items()}, **rules)


def test_edges_are_sorted_and_signed_by_transmitter():
    brain = small()
    assert list(zip(brain.pre, brain.post, strict=True)) == [(0, 1), (0, 3), (1, 1), (1, 2), (2, 0), (3, 0)]
    assert brain.weight.tolist() == [3, 1, -2, -4, -7, 5]
    assert brain.dropped == {}
    assert brain.count.dtype == np.int32
    assert brain.neurons["id"].tolist() == [BIG + k for k in range(4)]


def test_rules_are_arguments_and_say_what_they_left_out():
    assert small(unknown_sign="drop").dropped == {"unknown transmitter": 1}
    assert small(self_loops="drop").dropped == {"self-loops": 1}
    assert small(signs={"ach": -1}, unknown_sign=-1).sign.tolist() == [-1] * 6
    with pytest.raises(ValueError, match="row 3 has the transmitter ''"):
        small(unknown_sign="raise")
    with pytest.raises(ValueError, match=f"neuron {BIG + 1} connects to itself"):
        small(self_loops="raise")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 9)), max_size=30), st.booleans())
def test_edges_are_the_matrix_of_the_list(pairs, graded):
    pre, post, count = np.array(pairs, int).reshape(-1, 3).T
    count = count * 0.5 if graded else count
    sign = np.array([1, -1, 1, -1, 1])
    matrix = np.zeros((5, 5))
    np.add.at(matrix, (pre, post), count * sign[pre])
    batches = [{"pre": pre[k : k + 7], "post": post[k : k + 7], "count": count[k : k + 7], "sign": sign[pre[k : k + 7]]}
               for k in range(0, len(pairs), 7)]  # fmt: skip
    brain = bs.Connectome({"id": np.arange(5)}, batches)
    again = np.zeros((5, 5))
    again[brain.pre, brain.post] = brain.weight
    assert np.array_equal(again, matrix)
    assert brain.dropped.get("duplicates", 0) == len(pairs) - np.count_nonzero(matrix)
    kept = bs.Connectome({"id": np.arange(5)}, batches, duplicates="keep")
    assert kept.pre.size == len(pairs)
    assert np.isclose(kept.weight.sum(), matrix.sum())


def test_duplicates_can_be_refused():
    edges = {"pre": np.array([0, 1, 0]), "post": np.array([1, 0, 1])}
    with pytest.raises(ValueError, match="0 -> 1 is listed more than once"):
        bs.Connectome({"id": np.arange(2)}, edges, duplicates="raise")


def test_cells_and_conditions():
    brain = small()
    assert brain.cells(type="A").tolist() == [0, 1]
    assert brain.cells(type=["A", "B"], side="right").tolist() == [1, 2]
    assert brain.cells(id=[BIG + 3, str(BIG + 1)]).tolist() == [3, 1]
    assert brain.where("class == 'out' and side == 'right'").tolist() == [2]
    for wrong, says in (
        ({"type": "A1"}, "Did you mean 'A'"),
        ({"kind": 1}, "no column"),
        ({"id": [BIG + 9]}, "version"),
    ):
        with pytest.raises(ValueError, match=says):
            brain.cells(**wrong)
    with pytest.raises(ValueError, match="not together"):
        brain.cells(type="B", side="left")
    with pytest.raises(TypeError, match="beyond 2\\^53"):
        brain.cells(id=[float(BIG)])
    with pytest.raises(ValueError, match="no condition"):
        brain.where("id + 1")


def test_parts_of_a_connectome():
    brain = small()
    part = brain.subset([2, 1, 0])
    assert part.neurons["type"].tolist() == ["B", "A", "A"]
    assert list(zip(part.pre, part.post, part.weight, strict=True)) == [(0, 2, -7), (1, 0, -4), (1, 1, -2), (2, 1, 3)]
    assert part.dropped == {"left out of a larger one": 2}
    assert part.cells(id=[BIG]).tolist() == [2]
    quiet = brain.silenced(brain.cells(type="A"))
    assert len(quiet) == 4
    assert quiet.pre.tolist() == [2, 3]
    with pytest.raises(ValueError, match="given twice"):
        brain.subset([1, 1])


@pytest.mark.parametrize(
    "neurons, edges, error, says",
    [
        ({"root": [1]}, {"pre": [1], "post": [1]}, ValueError, "no column 'id'"),
        ({"id": [1.0]}, {"pre": [1], "post": [1]}, TypeError, "Floats hold no whole number"),
        ({"id": [1, 2, 1]}, {"pre": [1], "post": [1]}, ValueError, "row 2: id 1 is there twice"),
        ({"id": [1, 2]}, {"pre": [1, 7], "post": [2, 1]}, ValueError, "row 1: pre 7 is not among the 2 neurons"),
        ({"id": [1, 2]}, {"pre": [1], "post": [2], "count": [-1]}, ValueError, "give the sign as"),
        ({"id": ["1", "x"]}, {"pre": [1], "post": [1]}, TypeError, "row 1: id is 'x'"),
    ],
)
def test_bad_tables_are_named(neurons, edges, error, says):
    with pytest.raises(error, match=says):
        bs.Connectome(neurons, {k: np.asarray(v) for k, v in edges.items()})


def shiu(folder: Path, rng, n=50, m=400) -> tuple[Path, Path]:
    """Tables in the form of Shiu et al. 2024."""
    ids = BIG + rng.permutation(1000)[:n]
    pre, post = rng.integers(0, n, (2, m))
    count, sign = rng.integers(1, 30, m), rng.choice([1, -1], n)[pre]
    columns = {"Presynaptic_ID": ids[pre], "Postsynaptic_ID": ids[post], "Presynaptic_Index": pre}
    columns |= {"Postsynaptic_Index": post, "Connectivity": count, "Excitatory": sign}
    table = pd.DataFrame({**columns, "Excitatory x Connectivity": count * sign}).drop_duplicates(list(columns)[2:4])
    table.to_parquet(folder / "edges.parquet")
    pd.DataFrame({"Completed": True}, index=ids).to_csv(folder / "neurons.csv")
    return folder / "neurons.csv", folder / "edges.parquet"


def test_tables_of_shiu(tmp_path):
    neurons, edges = shiu(tmp_path, np.random.default_rng(0))
    brain, table = connectome.read_shiu(neurons, edges), pd.read_parquet(edges)
    ids = brain.neurons["id"].to_numpy()
    found = dict(zip(zip(ids[brain.pre], ids[brain.post], strict=True), brain.weight, strict=True))
    pairs = zip(table["Presynaptic_ID"], table["Postsynaptic_ID"], strict=True)
    assert found == dict(zip(pairs, table["Excitatory x Connectivity"], strict=True))
    annotations = pd.DataFrame({"root_id": ids[:3], "cell_type": "X", "side": "left"})
    annotations.to_csv(tmp_path / "more.csv", index=False)
    named = connectome.read_shiu(neurons, edges, annotations=tmp_path / "more.csv")
    assert named.cells(type="X", side="left").tolist() == [0, 1, 2]
    assert np.array_equal(named.neurons["id"], ids)
    other = pd.read_csv(neurons).iloc[1:]
    other.to_csv(neurons, index=False)
    with pytest.raises(ValueError, match="completeness table of the same version"):
        connectome.read_shiu(neurons, edges)
    table.drop(columns="Presynaptic_Index").to_parquet(edges)
    with pytest.raises(ValueError, match="no column 'Presynaptic_Index'"):
        connectome.read_shiu(neurons, edges)


def test_tables_of_codex(tmp_path):
    ids = BIG + np.arange(3)
    pd.DataFrame({"root_id": ids, "nt_type": ["ACH", "GABA", None]}).to_csv(tmp_path / "neurons.csv", index=False)
    pairs = {"pre_root_id": ids[[0, 1, 0]], "post_root_id": ids[[1, 2, 1]], "neuropil": ["AL", "AL", "LH"]}
    pd.DataFrame({**pairs, "syn_count": [5, 6, 7]}).to_csv(tmp_path / "connections.csv.gz", index=False)
    pd.DataFrame({"root_id": ids[::-1], "super_class": ["motor", "central", "sensory"], "class": "c"}).to_csv(
        tmp_path / "classes.csv", index=False
    )
    pd.DataFrame({"root_id": ids[[1, 1]], "position": ["[1 2 3]", "[4 5 6]"]}).to_csv(tmp_path / "xyz.csv", index=False)
    files = [tmp_path / name for name in ("neurons.csv", "connections.csv.gz", "classes.csv", "xyz.csv")]
    brain = connectome.read_codex(*files[:2], classification=files[2], coordinates=files[3])
    assert brain.weight.tolist() == [12, -6]
    assert brain.dropped == {"duplicates": 1}
    assert brain.neurons["class"].tolist() == ["sensory", "central", "motor"]
    assert brain.positions[1].tolist() == [1, 2, 3]
    assert np.isnan(brain.positions[0]).all()


def test_tables_of_the_male_cns(tmp_path):
    bodies = {
        "bodyId": [10, 11, 12],
        "type": ["DNp01", "T4a", None],
        "superclass": ["descending_neuron", "ol_intrinsic", None],
    }
    pd.DataFrame({**bodies, "somaSide": ["L", "R", None]}).to_feather(tmp_path / "a.feather")
    pairs = {"body_pre": [11, 10, 12], "body_post": [10, 11, 10], "weight": [4, 5, 6]}
    pd.DataFrame(pairs).to_feather(tmp_path / "w.feather")
    pd.DataFrame({"body": [11, 10], "consensus_nt": ["acetylcholine", "gaba"]}).to_feather(tmp_path / "n.feather")
    files = [tmp_path / name for name in ("a.feather", "w.feather", "n.feather")]
    brain = connectome.read_malecns(*files[:2], transmitters=files[2])
    assert brain.weight.tolist() == [-5, 4]
    assert brain.dropped == {"unknown neurons": 1}
    assert brain.cells(type="DNp01", side="left", **{"class": "descending_neuron"}).tolist() == [0]


def test_ids_with_gaps_in_the_table_are_not_floats(tmp_path):
    (tmp_path / "neurons.csv").write_text(f"id,type,pair\n{BIG + 1},A,\n{BIG + 2},B,{BIG + 1}\n")
    (tmp_path / "edges.csv").write_text(f"source,target,n\n{BIG + 1},{BIG + 2},3\n")
    files = tmp_path / "neurons.csv", tmp_path / "edges.csv"
    names = {"pre": "source", "post": "target", "count": "n"}
    brain = connectome.read_tables(*files, edge_columns=names)
    assert brain.neurons["id"].tolist() == [BIG + 1, BIG + 2]
    assert int(brain.neurons["pair"][1]) == BIG + 1
    (tmp_path / "edges.csv").write_text(f"source,target,n\n{BIG + 1},{BIG + 2},3\n,{BIG + 2},3\n")
    with pytest.raises(ValueError, match=r"edges\.csv, row 1: 'source' is missing"):
        connectome.read_tables(*files, edge_columns=names)


def test_the_larva():
    (path,) = needs("connectomes/larva-winding2023.npz")
    brain = connectome.read_larva(path)
    assert (len(brain), brain.pre.size, brain.count.sum()) == (3016, 107_344, 337_162)
    out = np.bincount(brain.pre, minlength=len(brain))
    assert brain.neurons["id"][np.argsort(-out, kind="stable")[:5]].tolist() == [
        14334367,
        4391978,
        16823703,
        8238322,
        18500988,
    ]
    assert np.all(brain.neurons["class"][brain.cells(**{"class": "KCs"})] == "KCs")
    assert connectome.read_larva(path, mask="all").pre.size == 119_010


FILTERS = Path(__file__).parents[2] / "experiments/fly_vision/fib25-fib19_v2.2.json.gz"


def test_the_optic_lobe():
    lobe = connectome.read_optic_lobe(FILTERS)
    # counted in the network that flyvis makes of the same file
    assert (len(lobe), lobe.pre.size) == (45_669, 1_513_231)
    assert (int((lobe.sign > 0).sum()), int((lobe.sign < 0).sum())) == (983_980, 529_251)
    assert abs(lobe.count.sum(dtype=float) - 5_440_440.6) < 1
    assert lobe.cells(type="T4a").size == 721
    assert lobe.cells(role="input").size == 8 * 721


def test_columns_of_the_optic_lobe_are_alike(tmp_path):
    spec = json.loads(gzip.decompress(FILTERS.read_bytes()))
    (tmp_path / "plain.json").write_text(json.dumps(spec))
    lobe = connectome.read_optic_lobe(tmp_path / "plain.json", extent=3, fill=0.0)
    (edge,) = (e for e in spec["edges"] if (e["src"], e["tar"]) == ("Mi9", "T4a"))
    u, v = lobe.neurons["u"].to_numpy(), lobe.neurons["v"].to_numpy()
    is_pair = np.isin(lobe.pre, lobe.cells(type="Mi9")) & np.isin(lobe.post, lobe.cells(type="T4a"))
    middle = is_pair & (u[lobe.post] == 0) & (v[lobe.post] == 0)
    got = {(-u[i], -v[i]): n for i, n in zip(lobe.pre[middle], lobe.count[middle])}
    assert got == {tuple(at): pytest.approx(n) for at, n in edge["offsets"] if max(map(abs, [*at, sum(at)])) <= 3}
    assert set(lobe.sign[is_pair]) == {edge["alpha"]}
    near = np.sqrt(((lobe.positions[lobe.cells(type="L1")] - [0, 0, 0]) ** 2).sum(1))
    assert np.isclose(np.sort(near)[1:7], 1.0).all()  # six neighbours
    with pytest.raises(ValueError, match="extent is 0; expected 1"):
        connectome.read_optic_lobe(FILTERS, extent=0)
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match="has no 'nodes'; expected the filters of flyvis"):
        connectome.read_optic_lobe(tmp_path / "other.json")


def test_the_worm():
    files = needs("celegans_neurons.csv", "celegans_edges_cook2019.csv")
    worm = connectome.read_celegans(*files)
    assert (len(worm), worm.pre.size) == (302, 3638)
    assert connectome.read_celegans(*files, kind="electrical").pre.size == 2168
    assert worm.neurons["name"][worm.cells(type="ADAR")].tolist() == ["ADAR"]


def test_a_selection_goes_wherever_units_do():
    brain = small()
    rows = brain.cells(side="right")
    net = bs.Network(
        {"brain": bs.Population(bs.CubaLIF(), len(brain), {"syn": bs.Delta("i")}, i_e=2.0)},
        {"wiring": bs.Projection("brain", "brain.syn", brain.connect, weight=0.5 * brain.weight, delay=1.8)},
    )
    found = bs.synapses_of(net, "wiring", pre=rows)
    assert found.weight.tolist() == [-1.0, -2.0, -3.5]
    assert found.pre.tolist() == [1, 1, 2]
    recordings = [bs.Spikes("brain", units=rows), bs.Trace("brain.v", units=rows)]
    sol = bs.simulate(net, t1=20.0, dt=0.1, key=jax.random.key(0), solver=bs.ExponentialEuler(), saveat=recordings)
    assert sol["brain.v"].shape == (200, rows.size)
    assert set(sol.spikes("brain")[1]) <= set(rows)
