"""What is made of each network: campana's forms and onnxruntime's own."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One way to quantize."""

    name: str
    options: tuple[str, ...] = ()
    """Of `campana quantize`."""
    data: bool = False
    """On examples rather than on synthetic inputs."""
    suffix: str = ".onnx"
    baseline: str = ""
    """onnxruntime's kind, where it is not campana that quantizes."""

    def verified(self) -> bool:
        """Whether `campana verify` runs the file, too."""
        return self.name in ("lut4", "w4a8", "int8")


CONFIGURATIONS = [
    Configuration("lut4"),
    Configuration("lut4-nc", ("--no-correct",)),
    Configuration("w4a8", ("--target", "w4a8")),
    Configuration("int8", ("--target", "int8")),
    Configuration("static", baseline="static", data=True),
    Configuration("dynamic", baseline="dynamic"),
    Configuration("int8-data", ("--target", "int8"), data=True),
    Configuration("w4a8-nc", ("--target", "w4a8", "--no-correct")),
    Configuration("lut3-nc", ("--bits", "3", "--no-correct")),
    Configuration("lut3", ("--bits", "3")),
    Configuration("int8-nc", ("--target", "int8", "--no-correct")),
    Configuration("w4a8-data", ("--target", "w4a8"), data=True),
    Configuration("lut4-data", data=True),
    Configuration("container", ("--target", "campana"), suffix=".campana"),
]
SHORT = ("lut4", "lut4-nc", "w4a8", "int8", "static", "container")
CORRECTED = {"lut4": "lut4-nc", "lut3": "lut3-nc", "w4a8": "w4a8-nc", "int8": "int8-nc"}
"""Each corrected form and the same without correction."""
