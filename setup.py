"""Package metadata; ``pip install -e .`` is what the Makefile runs."""

from pathlib import Path

from setuptools import find_packages, setup

LINUX = "platform_system == 'Linux' and platform_machine == 'x86_64'"
NOT_LINUX = "platform_system != 'Linux' or platform_machine != 'x86_64'"

setup(
    name="caffe_compat",
    version="0.1.0",
    description="Caffe on PyTorch, faithfully: original prototxt and caffemodel files, and supervision transfer",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-2-Clause",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(include=["caffe_compat", "caffe_compat.*"]),
    package_data={"caffe_compat": ["py.typed", "proto/*.pyi"]},
    install_requires=[
        "torch>=2.11",
        "torchvision>=0.26",
        "numpy>=1.26",
        "protobuf>=5",
        "onnx>=1.17",
        f"onnxruntime-gpu>=1.20; {LINUX}",
        f"onnxruntime>=1.20; {NOT_LINUX}",
        "opencv-python>=4.8",
        "scikit-image>=0.22",
        "scipy>=1.11",
        "h5py>=3.10",
        "lmdb>=1.4",
        "pyyaml>=6",
        "tqdm>=4.65",
        "matplotlib>=3.8",
        "faster-coco-eval>=1.7,<2",
        f"plyvel>=1.5; {LINUX} and python_version < '3.13'",
    ],
    extras_require={
        "draw": ["pydot>=2"],
        "svm": ["scikit-learn>=1.4"],
        "teachers": ["timm>=1.0", "safetensors>=0.4"],
        "dev": ["pytest>=8", "scikit-learn>=1.4", "ruff>=0.17,<0.18", "mypy>=2.4,<2.5", "types-PyYAML"],
    },
)
