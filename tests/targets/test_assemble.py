"""What is said of a bundle's files."""

from lpa_export.targets.assemble import BundleFiles


def test_an_artifact_is_a_file_or_all_of_a_package() -> None:
    sizes = {
        "Model.mlpackage/Data/weights.bin": 70,
        "Model.mlpackage/Manifest.json": 5,
        "Model.mlpackage.json": 3,
        "model.pte": 20,
        "model.pte.bundled": 40,
    }
    files = BundleFiles(sizes, ("Model.mlpackage", "model.pte"))
    assert files.size("Model.mlpackage") == 75
    assert files.size("model.pte") == 20
