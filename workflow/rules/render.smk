rule report:
    input: f"{RESULTS}/runs.parquet", f"{RESULTS}/probe/probe.parquet"
    output: f"{RESULTS}/report.html"
    shell: "touch {output}"
