"""`kronlit models`: the architectures whose sites are known, or the sites of one model. Its help needs no torch."""

import textwrap

from kronlit.cli.methods import PLM
from kronlit.cli.short_help import table
from kronlit.config.mistakes import one_line
from kronlit.config.parser import Parser


def models_command(words: list[str]) -> None:
    """Run the words after `kronlit models`."""
    parser = Parser(
        prog="kronlit models",
        description="List the families of architectures whose sites are known, with the names of these sites. With "
        "`--plm`, which modules that model has at each site, how many, and of which shape.",
    )
    parser.add_argument("--plm", type=str | None, help=PLM)
    with one_line():
        plm = parser.parse_args(words).plm
        print(list_families() if plm is None else describe_sites(plm))


def list_families() -> str:
    """The architectures whose sites are written down, and how the modules of all others must be named."""
    from kronlit.adapters.families import ATTENTION, FFN, NAMED

    by_sites: dict[str, list[str]] = {}
    for architecture, sites in NAMED.items():
        by_sites.setdefault(", ".join(sites), []).append(architecture)
    blocks = [
        f"{textwrap.fill(', '.join(sorted(names)), 78)}\n{table({'': sites})}" for sites, names in by_sites.items()
    ]
    attention = {like: ", ".join(sites) for like, sites in ATTENTION.items()}
    ffn = {like: ", ".join(sites) for like, (_, sites) in FFN.items()}
    return (
        "Architectures (config.model_type) whose sites are written down:\n\n" + "\n".join(blocks) + "\n\n"
        "Every other architecture has the sites of the family that its modules are named like.\n\n"
        "attention named as in\n"
        + table(attention)
        + "\nfeed-forward network named as in\n"
        + table(ffn)
        + "\n\nThe modules of a model: kronlit models --plm FacebookAI/roberta-base"
        "\nAnywhere else: --model.method.sites '[\".*\\.q_proj\"]', regular expressions over whole names of modules."
    )


def describe_sites(plm: str) -> str:
    """The modules of a model at each site."""
    from kronlit.adapters.linear import features, is_linear
    from kronlit.adapters.sites import architecture_of, matches, sites_of, without_layers, without_sites
    from kronlit.cli.methods import meta_model

    model = meta_model(plm)
    head = f"{plm}, {architecture_of(model)}, a {type(model).__name__}"
    lines = [("site", "modules", "copies", "in x out", "parameters")]
    for site in sites_of(model):
        try:
            names = matches(model, site)
        except ValueError:  # written down for the architecture, and not there in this model
            continue
        groups: dict[tuple[str, str], list[int]] = {}
        for name in names:
            module = model.get_submodule(name)
            shape = " x ".join(map(str, features(module))) if is_linear(module) else "block"
            size = sum(parameter.numel() for parameter in module.parameters())
            groups.setdefault((without_layers(name), shape), []).append(size)
        for (name, shape), sizes in groups.items():
            lines.append((site, name, str(len(sizes)), shape, f"{sum(sizes):,}"))
    if len(lines) == 1:
        return f"{head}\n\n{without_sites(model)}"
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ("<", "<", ">", ">", ">")
    rows = (
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True))
        for line in lines
    )
    return f"{head}\n\n" + "\n".join(rows)
