//! Runs the programs in turn. The speed of a shared machine changes all the time. So each round
//! runs every program once, each round begins with a different program, and a ratio is the median
//! of the rounds' ratios.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Cases, CompareArgs};

/// The case that measures a run's peak memory instead of time.
const PEAK: &str = "peak RSS";

/// A program to compare, and its name.
#[derive(Clone)]
pub struct Program {
    name: String,
    command: Vec<String>,
}

impl FromStr for Program {
    type Err = String;

    fn from_str(text: &str) -> Result<Program, String> {
        let (name, command) = text.split_once('=').ok_or("write NAME=COMMAND ARGUMENTS...")?;
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if command.is_empty() { Err("no command".to_owned()) } else { Ok(Program { name: name.to_owned(), command }) }
    }
}

/// A program's report of one run.
#[derive(Deserialize)]
struct Said {
    cases: Vec<SaidCase>,
    load_s: f64,
    peak_rss_bytes: Option<u64>,
}

#[derive(Deserialize)]
struct SaidCase {
    case: String,
    depth: u32,
    tokens: u32,
    runs_s: Vec<f64>,
    runs_cpu_s: Vec<f64>,
}

/// One figure of one model on a number of cores, from every program: `rounds[program][round]`.
#[derive(Serialize)]
struct Row {
    model: String,
    threads: u32,
    case: String,
    depth: u32,
    tokens: u32,
    rounds: Vec<Vec<f64>>,
    medians: Vec<f64>,
    /// The first program's speed divided by each program's; for memory, its bytes divided by
    /// theirs.
    ratios: Vec<f64>,
}

pub fn compare(args: &CompareArgs) -> Result<(), Box<dyn Error>> {
    let mut rows: Vec<Row> = Vec::new();
    for model in &args.models {
        for &threads in &args.threads {
            rows.extend(one(args, model, threads)?);
        }
    }
    let names: Vec<&str> = args.programs.iter().map(|program| program.name.as_str()).collect();
    print(&names, &rows);
    if let Some(path) = &args.json {
        let commands: Vec<Value> =
            args.programs.iter().map(|p| serde_json::json!({ "name": p.name, "command": p.command })).collect();
        let all = serde_json::json!({ "programs": commands, "rounds": args.rounds, "cpu_time": args.cpu_time, "rows": rows });
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(())
}

fn one(args: &CompareArgs, model: &Path, threads: u32) -> Result<Vec<Row>, Box<dyn Error>> {
    let file = model.file_name().unwrap_or(model.as_os_str()).to_string_lossy().into_owned();
    let mut rows: Vec<Row> = Vec::new();
    let count = args.programs.len();
    for round in 0..args.rounds as usize {
        for turn in 0..count {
            let index = (round + turn) % count;
            let program = &args.programs[index];
            eprint!("\r\x1b[K{file}, {threads} threads, round {} of {}: {}", round + 1, args.rounds, program.name);
            let said = run(program, &args.cases, model, threads)?;
            let mut put = |case: &str, depth, tokens, figure: f64| {
                let same = |row: &&mut Row| (row.case.as_str(), row.depth, row.tokens) == (case, depth, tokens);
                if let Some(row) = rows.iter_mut().find(same) {
                    row.rounds[index].push(figure);
                    return;
                }
                let mut rounds = vec![Vec::new(); count];
                rounds[index].push(figure);
                let (model, case, medians, ratios) = (file.clone(), case.to_owned(), Vec::new(), Vec::new());
                rows.push(Row { model, threads, case, depth, tokens, rounds, medians, ratios });
            };
            for case in &said.cases {
                let seconds = if args.cpu_time { &case.runs_cpu_s } else { &case.runs_s };
                put(&case.case, case.depth, case.tokens, median(seconds));
            }
            put("load", 0, 0, said.load_s);
            if let Some(bytes) = said.peak_rss_bytes {
                put(PEAK, 0, 0, bytes as f64);
            }
        }
    }
    eprint!("\r\x1b[K");
    for row in &mut rows {
        row.medians = row.rounds.iter().map(|figures| median(figures)).collect();
        let is_memory = row.case == PEAK;
        // The rounds are in seconds, so the ratio of speeds is theirs divided by ours.
        let of_round = |(ours, theirs): (&f64, &f64)| if is_memory { ours / theirs } else { theirs / ours };
        let ratio = |theirs: &Vec<f64>| median(&row.rounds[0].iter().zip(theirs).map(of_round).collect::<Vec<f64>>());
        row.ratios = row.rounds.iter().map(ratio).collect();
    }
    Ok(rows)
}

fn run(program: &Program, cases: &Cases, model: &Path, threads: u32) -> Result<Said, Box<dyn Error>> {
    let list = |sizes: &[u32]| sizes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let mut command = Command::new(&program.command[0]);
    command.args(&program.command[1..]).arg("--model").arg(model).args(["--runs", "1", "--threads", &threads.to_string()]);
    command.args(["--prefill", &list(&cases.prefill), "--depth", &list(&cases.depth), "--steps", &cases.steps.to_string()]);
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{} ended with {}", program.name, output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout).map_err(|error| format!("{}: {error}", program.name))?)
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length => (sorted[(length - 1) / 2] + sorted[length / 2]) / 2.0,
    }
}

/// Rates and ratios, one line per case: the ratio says how many times as fast the first program is;
/// for memory, how many times as much it takes.
fn print(names: &[&str], rows: &[Row]) {
    print!("{:<24}{:>8}  {:<10}{:>7}{:>7}", "model", "threads", "case", "depth", "tokens");
    names.iter().for_each(|name| print!("{name:>16}"));
    names.iter().skip(1).for_each(|name| print!("{:>18}", format!("÷ {name}")));
    println!();
    for row in rows {
        print!("{:<24}{:>8}  {:<10}{:>7}{:>7}", row.model, row.threads, row.case, row.depth, row.tokens);
        for &median in &row.medians {
            let text = match row.case.as_str() {
                "load" => format!("{median:.3} s"),
                PEAK => format!("{:.0} MB", median / 1e6),
                _ => format!("{:.1} t/s", f64::from(row.tokens) / median),
            };
            print!("{text:>16}");
        }
        row.ratios.iter().skip(1).for_each(|ratio| print!("{ratio:>18.2}"));
        println!();
    }
}
