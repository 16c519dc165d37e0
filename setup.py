"""Package metadata; ``pip install -e .`` is what the Makefile runs."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SHARED = ("prototxt", "experiments")
LINUX = "platform_system == 'Linux' and platform_machine == 'x86_64'"
NOT_LINUX = "platform_system != 'Linux' or platform_machine != 'x86_64'"
ONNX_GPU = [f"onnxruntime-gpu>=1.20; {LINUX}"]
COCO = ["faster-coco-eval>=1.7,<2"]


class BuildWithFiles(build_py):
    """Copies the folders that stand at the top of the checkout into the package, as ``caffe_compat/share``."""

    def run(self):
        """Build; an editable installation finds the folders where they are."""
        super().run()
        if not self.editable_mode:
            shutil.rmtree(self._share, ignore_errors=True)
            for source, target in self._files().items():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def get_outputs(self, include_bytecode=True):
        """What a build writes."""
        own = [] if self.editable_mode else [str(target) for target in self._files().values()]
        return super().get_outputs(include_bytecode) + own

    @property
    def _share(self):
        return Path(self.build_lib, "caffe_compat", "share")

    def _files(self):
        paths = [path for folder in SHARED for path in sorted((HERE / folder).rglob("*")) if path.is_file()]
        return {path: self._share / path.relative_to(HERE) for path in paths if not path.name.startswith(".")}


setup(
    name="caffe_compat",
    version=re.search(r'__version__ = "(.+)"', (HERE / "caffe_compat/version.py").read_text(encoding="utf-8"))[1],
    description="Caffe on PyTorch, faithfully: original prototxt and caffemodel files, and supervision transfer",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=find_packages(include=["caffe_compat", "caffe_compat.*"]),
    package_data={"caffe_compat": ["py.typed", "proto/*.pyi"]},
    cmdclass={"build_py": BuildWithFiles},
    entry_points={"console_scripts": ["caffe-compat = caffe_compat.__main__:program"]},
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "numpy>=1.26",
        "protobuf>=5",
        "onnx>=1.17",
        *ONNX_GPU,
        f"onnxruntime>=1.20; {NOT_LINUX}",
        "opencv-python>=4.8",
        "pillow>=10",
        "scikit-image>=0.22",
        "scipy>=1.11",
        "h5py>=3.10",
        "lmdb>=1.4",
        "pyyaml>=6",
        "tqdm>=4.65",
        "matplotlib>=3.8",
        *COCO,
        f"plyvel>=1.5; {LINUX} and python_version < '3.13'",
    ],
    extras_require={
        # gpu and coco name what the base has on Linux, or everywhere: who asks for them by name is served too.
        "gpu": ONNX_GPU,
        "coco": COCO,
        "leveldb": ["plyvel>=1.5"],
        "draw": ["pydot>=2"],
        "svm": ["scikit-learn>=1.4"],
        "teachers": ["timm>=1.0", "safetensors>=0.4"],
        "bench": ["onnxscript>=0.5", "openvino>=2025.0"],
        "dev": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "setuptools>=77",
            "scikit-learn>=1.4",
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<2.5",
            "types-PyYAML",
        ],
    },
)
