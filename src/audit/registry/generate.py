#!/usr/bin/env python3
"""Turns IANA's registry of ports into iana.tsv, the table that is embedded in the program.

    generate.py service-names-port-numbers.csv > src/audit/registry/iana.tsv
    generate.py --newest 2025-11-14 reduced.csv > src/audit/registry/iana.tsv

The first form takes the file as IANA publishes it at
https://www.iana.org/assignments/service-names-port-numbers/service-names-port-numbers.csv
and the second one that was reduced to the columns port, transport, service, description, reference,
unauthorized_use and notes, and so has lost the dates.

The table: a line for each assignment, in the order of the numbers, seven fields between tabs:
first port, last port, transports (empty: all), service (empty: none), description, references,
remark. Lines that begin with # are for people, but `# newest: DATE` is read by the program.
"""

import argparse
import csv
import re
import sys

COLUMNS = {
    "port": ("port", "Port Number"),
    "transport": ("transport", "Transport Protocol"),
    "service": ("service", "Service Name"),
    "description": ("description", "Description"),
    "reference": ("reference", "Reference"),
    "unauthorized": ("unauthorized_use", "Unauthorized Use Reported"),
    "notes": ("notes", "Assignment Notes"),
}
DATES = ("Registration Date", "Modification Date")
TRANSPORTS = ["tcp", "udp", "sctp", "dccp"]
LAST_REGISTERED = 49151
LONGEST_REMARK = 160

# What the registry says hundreds of times, and what concerns no operator.
NOISE = re.compile(
    r"Defined TXT keys:.*|Known Subtypes:.*"
    r"|This entry is an alias to .*|This is a duplicate of .*"
    r"|This entry is now historic.*|IANA assigned this well-formed service name.*"
)


def one_line(text):
    return " ".join((text or "").split())


def ports(text):
    first, _, last = text.strip().partition("-")
    return int(first), int(last or first)


def remark(row):
    parts = [one_line(NOISE.sub("", one_line(row[key]))) for key in ("unauthorized", "notes")]
    text = "; ".join(part for part in parts if part)
    return text if len(text) <= LONGEST_REMARK else text[: LONGEST_REMARK - 1].rstrip() + "…"


def rows(file):
    """The rows in our own words, and the newest date of IANA's."""
    reader = csv.DictReader(file)
    names = {}
    for key, candidates in COLUMNS.items():
        found = [name for name in candidates if name in (reader.fieldnames or [])]
        if not found:
            sys.exit(f"generate.py: no column {' or '.join(map(repr, candidates))}")
        names[key] = found[0]
    table, newest = [], ""
    for row in reader:
        newest = max([newest] + [row[column] or "" for column in DATES if column in row])
        table.append({key: row[name] or "" for key, name in names.items()})
    return table, newest


def assignments(table):
    """Rows that differ in the transport only become one."""
    merged = {}
    for row in table:
        if not row["port"].strip():
            continue
        first, last = ports(row["port"])
        if first > LAST_REGISTERED:
            continue
        description = NOISE.sub("", one_line(row["description"])).strip()
        references = " ".join(re.findall(r"\[([^\]]+)\]", row["reference"]))
        key = (first, last, one_line(row["service"]), description, references, remark(row))
        merged.setdefault(key, set()).add(row["transport"].strip().lower())
    for key, transports in sorted(merged.items(), key=lambda item: item[0][:2]):
        unknown = transports - set(TRANSPORTS) - {""}
        if unknown:
            sys.exit(f"generate.py: port {key[0]}: unknown transport {', '.join(unknown)}")
        every = "" in transports
        listed = "" if every else ",".join(t for t in TRANSPORTS if t in transports)
        yield (str(key[0]), str(key[1]), listed, *key[2:])


def main():
    parser = argparse.ArgumentParser(description="IANA's registry of ports as a compact table")
    parser.add_argument("--newest", help="the date of the newest entry, where the file has none")
    parser.add_argument("csv", help="the registry")
    arguments = parser.parse_args()
    with open(arguments.csv, encoding="utf-8", newline="") as file:
        table, newest = rows(file)
    newest = arguments.newest or newest
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", newest):
        sys.exit("generate.py: the file has no dates; give --newest YYYY-MM-DD")
    sys.stdout.reconfigure(encoding="utf-8")
    print("# IANA Service Name and Transport Protocol Port Number Registry, made by generate.py.")
    print(f"# newest: {newest}")
    print("# first\tlast\ttransports\tservice\tdescription\treferences\tremark")
    for fields in assignments(table):
        print("\t".join(fields).rstrip("\t"))


main()
