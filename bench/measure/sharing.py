"""Contents of a bundle beside the record: suite, packages, uncommitted changes, checksums of the data."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import yaml

from bench import workloads
from bench.errors import ResultError, UsageError
from bench.measure.header import BENCH, sources_of
from bench.measure.request import recorded_suite
from bench.probes.code import HARNESS, place_of
from bench.probes.environment import harness
from bench.probes.packages import installed, version_of
from bench.records import bundle
from bench.records.bundle import Bundle, Changes, DataSums, Manifest
from bench.records.reading import Results, read
from bench.suites.files import SuiteFile
from bench.suites.suite import Suite
from bench.system import own_models
from bench.system.repository import Repository
from bench.workloads.base import used
from bench.workloads.files import fingerprint


def write_bundle(file: Path, out: Path) -> Manifest:
    """Bundle a result file. Raises UsageError if it can't be bundled."""
    results = read(file)
    header = results.header
    if header.revisions is not None:
        raise ResultError(f"{file}: holds a gate's raw data (bench regress or doctor), no run of a suite")
    own_models.look_here()
    changes, diffs = _changes(results)
    files, problem = _files(header.suite.workload)
    members = {
        bundle.RECORD: file.read_bytes(),
        bundle.SUITE: as_yaml(header.suite),
        bundle.PACKAGES: "\n".join(installed()).encode(),
        bundle.DATA: msgspec.json.encode(
            DataSums(data=header.data, files=files, batches=batches_of(results))
        ),
        **diffs,
    }
    manifest = Manifest(
        schema=bundle.SCHEMA,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        harness=harness(),
        members={},
        changes=changes,
        since=[*_since(results), *problem],
    )
    return bundle.write(out, members, manifest)


def as_yaml(suite: Suite) -> bytes:
    """A suite with every field that it is run with, as a file that `bench run --suite` reads."""
    fields = {name: value for name, value in msgspec.to_builtins(suite).items() if value is not None}
    if suite.tokens is not None:
        del fields["batch"]  # It follows from the tokens, and a file may have only one of them.
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)
    return text.encode()


def suite_file(found: Bundle) -> SuiteFile:
    """The suite of a bundle's record, ready to be run; the YAML beside it is for people.

    Raises UsageError if it means something else to this version.
    """
    return recorded_suite(found.results, found.path)


def batches_of(results: Results) -> dict[str, str]:
    """Checksums of the cases' batches, of those that were drawn."""
    return {name: solo.batch_digest for name, solo in results.solos.items() if solo.batch_digest is not None}


def _files(name: str) -> tuple[dict[str, str], list[str]]:
    """Checksums of the files that a workload is made of, by name, and why there are none if so."""
    try:
        location = used(workloads.load(name).sources()).location
        place = Path(location or "")
        if place.is_dir():
            paths = sorted(path for path in place.rglob("*") if path.is_file())
            return {
                place.name: f"{len(paths)} files of {sum(path.stat().st_size for path in paths)} bytes"
            }, []
        return ({place.name: fingerprint(place)} if place.is_file() else {}), []
    except (UsageError, OSError) as error:
        return {}, [f"the data is not there any more: {error}"]


def _since(results: Results) -> Iterator[str]:
    """Differences from the state in which the run was made, as far as that can be told."""
    then = results.header.environment
    for name, version in {**then.libraries, "torch": then.torch}.items():
        now = version_of(name)
        if now is not None and now.partition("+")[0] != version.partition("+")[0]:
            yield f"{name} was {version}, and is {now}"
    try:
        now_sources = sources_of(results.header.suite)
    except (UsageError, ValueError) as error:
        yield f"sources cannot be compared: {error}"
        return
    for name, digest in results.header.sources.items():
        if now_sources.get(name) != digest:
            yield f"{'this harness' if name == BENCH else name} has changed, so that no diff is of what ran"


def _changes(results: Results) -> tuple[list[Changes], dict[str, bytes]]:
    """Diffs of the repositories that code was run from with changes, each once."""
    found: list[Changes] = []
    diffs: dict[str, bytes] = {}
    for root, names in _repositories(results).items():
        repository = Repository(root)
        diff, left_out = repository.changes()
        if diff.strip():
            member = f"changes-{len(found)}.diff"
            commit = repository.commit("HEAD")
            found.append(Changes(member=member, of=names, commit=commit, left_out=left_out))
            diffs[member] = diff
    return found, diffs


def _repositories(results: Results) -> Mapping[Path, list[str]]:
    """Roots of the repositories of what was dirty, with the names of what lies in each."""
    tops = {
        name: plug_in.path.partition(":")[0].partition(".")[0]
        for name, plug_in in results.header.plug_ins.items()
        if plug_in.dirty
    }
    if "with changes" in (results.header.environment.harness or ""):
        tops[BENCH] = "bench"
    roots: dict[Path, list[str]] = {}
    for name, top in tops.items():
        place = place_of("bench" if top in HARNESS else top)
        if place is not None:
            roots.setdefault(Repository.around(place.parent).root, []).append(name)
    return roots
