"""The architectures of FlowNet2's deploy nets, C, S, SD, CSS and all of it, with few channels."""

from __future__ import annotations

FILLERS = 'weight_filler { type: "msra" } bias_filler { type: "constant" }'


class FlowNets:
    """Prototxt text that grows; every method adds layers and returns the name of the last top."""

    def __init__(self, high: int, wide: int, channels: int = 4) -> None:
        self.size, self.channels, self.count = (high, wide), channels, 0
        self.adapted = tuple(-(-side // 64) * 64 for side in self.size)
        dims = f"dim: 1 dim: 3 dim: {high} dim: {wide}"
        shape = f"input_param {{ shape {{ {dims} }} }}"
        names = [f"img{index}" for index in (0, 1)]
        self.text = "".join(f'layer {{ name: "{one}" type: "Input" top: "{one}" {shape} }}\n' for one in names)
        self.pictures = [self._picture(name) for name in names]

    def layer(self, kind: str, bottoms: list[str], body: str = "", top: str = "") -> str:
        """One layer."""
        self.count += 1
        top = top or f"blob{self.count}"
        names = " ".join(f'bottom: "{name}"' for name in bottoms)
        self.text += f'layer {{ name: "{kind}{self.count}" type: "{kind}" {names} top: "{top}" {body} }}\n'
        return top

    def _picture(self, name: str) -> str:
        scaled = self.scaled(name, 1 / 255)
        body = "augment_during_test: true recompute_mean: 1000 mean_per_pixel: false"
        less = self.layer("DataAugmentation", [scaled], f"augmentation_param {{ {body} }}")
        high, wide = self.adapted
        return self.layer("Resample", [less], f"resample_param {{ width: {wide} height: {high} }}")

    def scaled(self, bottom: str, factor: float) -> str:
        """Eltwise of one bottom."""
        return self.layer("Eltwise", [bottom], f"eltwise_param {{ operation: SUM coeff: {factor} }}")

    def conv(self, bottom: str, kernel: int = 3, stride: int = 1, outputs: int = 0, name: str = "") -> str:
        """Convolution and ReLU, or with ``outputs`` no ReLU; ``name`` shares the weights."""
        pad, number = kernel // 2, outputs or self.channels
        shared = f'param {{ name: "{name}_w" }} param {{ name: "{name}_b" }} ' if name else ""
        sizes = f"num_output: {number} pad: {pad} kernel_size: {kernel} stride: {stride} {FILLERS}"
        top = self.layer("Convolution", [bottom], f"{shared}convolution_param {{ {sizes} }}")
        return top if outputs else self.layer("ReLU", [top], "relu_param { negative_slope: 0.1 }", top)

    def up(self, bottom: str, outputs: int) -> str:
        """A deconvolution to twice the size."""
        body = f"num_output: {outputs} pad: 1 kernel_size: 4 stride: 2 {FILLERS}"
        return self.layer("Deconvolution", [bottom], f"convolution_param {{ {body} }}")

    def refine(self, maps: list[str], between: bool = False) -> str:
        """From the smallest map, the first, to the largest: the flow of a quarter of the size."""
        features = maps[0]
        flow = self.conv(features, outputs=2)
        for beside in maps[1:]:
            larger = self.layer("ReLU", [self.up(features, self.channels)], "relu_param { negative_slope: 0.1 }")
            features = self.layer("Concat", [beside, larger, self.up(flow, 2)])
            flow = self.conv(self.conv(features, outputs=self.channels) if between else features, outputs=2)
        return flow

    def pyramid(self, bottom: str, kernels: tuple[int, ...] = (7, 5, 5, 3, 3, 3)) -> list[str]:
        """Maps of halves of the size, the smallest first."""
        maps, here = [], bottom
        for kernel in kernels:
            here = self.conv(here, kernel, 2)
            maps.append(here)
        return maps[::-1]

    def net_c(self) -> str:
        """With a correlation of both pictures' features."""
        towers = []
        for picture in self.pictures:
            maps, here = [], picture
            for index, kernel in enumerate((7, 5, 5)):
                here = self.conv(here, kernel, 2, name=f"conv{index}")
                maps.append(here)
            towers.append(maps)
        body = "pad: 20 kernel_size: 1 max_displacement: 20 stride_1: 1 stride_2: 2"
        alike = self.layer("Correlation", [towers[0][2], towers[1][2]], f"correlation_param {{ {body} }}")
        third = self.conv(self.layer("Concat", [self.conv(towers[0][2], 1), alike]))
        return self.scaled(self.refine([*self.pyramid(third, (3, 3, 3)), third, towers[0][1]]), 20)

    def net_s(self, extra: list[str] | None = None) -> str:
        """Both pictures, and what a first net has made of them, one behind the other."""
        both = self.layer("Concat", [*self.pictures, *(extra or [])])
        return self.scaled(self.refine(self.pyramid(both)[:-1]), 20)

    def net_sd(self) -> str:
        """For small displacements: small kernels, and convolutions between."""
        both = self.layer("Concat", self.pictures)
        return self.scaled(self.refine(self.pyramid(self.conv(both), (3,) * 6)[:-1], between=True), 0.05)

    def warped(self, flow: str) -> tuple[str, str]:
        """The second picture warped, and the norm of what it differs by from the first."""
        there = self.layer("FlowWarp", [self.pictures[1], flow])
        subtract = "eltwise_param { operation: SUM coeff: 1 coeff: -1 }"
        return there, self.layer("ChannelNorm", [self.layer("Eltwise", [self.pictures[0], there], subtract)])

    def stacked(self, flow: str) -> str:
        """A net S behind another."""
        full = self.layer("Accum", [flow, self.pictures[0]], "accum_param { have_reference: true }")
        there, error = self.warped(full)
        return self.net_s([there, self.scaled(full, 0.05), error])

    def fused(self, first: str, second: str) -> str:
        """The fusion of two flows, of full size."""
        body = "resample_param { type: NEAREST antialias: false factor: 1 }"
        flows = [self.layer("Resample", [flow, self.pictures[0]], body) for flow in (first, second)]
        norms = [self.layer("ChannelNorm", [flow]) for flow in flows]
        errors = [self.warped(flow)[1] for flow in flows]
        inner = self.conv(self.layer("Concat", [self.pictures[0], *flows, *norms, *errors]))
        half = self.conv(inner, stride=2)
        return self.refine([half, inner])

    def finished(self, flow: str) -> str:
        """The text of a net that ends in the flow of the pictures' own size, ``flow``."""
        (high, wide), adapted = self.size, self.adapted
        resized = self.layer("Resample", [flow], f"resample_param {{ width: {wide} height: {high} }}")
        values = f"diag_val: {wide / adapted[1]} diag_val: {high / adapted[0]}"
        filler = f'weight_filler {{ type: "diagonal" {values} }} bias_filler {{ type: "constant" }}'
        self.layer("Convolution", [resized], f"convolution_param {{ num_output: 2 kernel_size: 1 {filler} }}", "flow")
        return self.text


def flow_net(kind: str, high: int, wide: int) -> str:
    """``kind``: C, S, SD, CSS or 2."""
    nets = FlowNets(high, wide)
    if kind == "S":
        return nets.finished(nets.net_s())
    if kind == "SD":
        return nets.finished(nets.net_sd())
    flow = nets.net_c()
    if kind != "C":
        flow = nets.stacked(nets.stacked(flow))
    return nets.finished(nets.fused(nets.net_sd(), flow) if kind == "2" else flow)
