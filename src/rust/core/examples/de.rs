//! Times differential expression on one file: a bare inflate is what
//! `passes` reports as its first line.
//! usage: de FILE [threads] [budget in MB] [groups] [rest|pairs|within] [sum|t|rank]
//! `within` compares two conditions inside each group; the last argument names
//! one task, all without it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use scoom_core::ctx::{Ctx, Silent};
use scoom_core::de::contrast::{Contrasts, Stratum};
use scoom_core::de::fold_change::FoldChange;
use scoom_core::de::gene_major::GeneMajor;
use scoom_core::de::group_pass::GroupPass;
use scoom_core::de::groups::Groups;
use scoom_core::de::moments::{GroupSum, run_moment_test};
use scoom_core::de::table::{Order, TableOptions};
use scoom_core::de::ttest::{Spread, TTest};
use scoom_core::de::wilcoxon::Wilcoxon;
use scoom_core::matrix::{Source, open_matrix};
use scoom_core::pass::run_tiled;
use scoom_core::stats::adjust::Adjustment;
use scoom_core::stats::dist::Alternative;
use scoom_core::stats::random::Rng;
use scoom_core::transform::{Chain, Op, View};

/// Seconds of processor time that all threads used so far, in steps of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.split(' ').skip(13).take(2).filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Units and the strata between them.
fn design(name: &str, n_groups: u32) -> (u32, Vec<Stratum>) {
    let stratum = |(i, (group, reference))| Stratum { comparison: i as u32, group, reference };
    let sides: Vec<(Vec<u32>, Vec<u32>)> = match name {
        "rest" => (0..n_groups)
            .map(|group| (vec![group], (0..n_groups).filter(|&other| other != group).collect()))
            .collect(),
        "pairs" => (0..n_groups * n_groups)
            .map(|i| (i / n_groups, i % n_groups))
            .filter(|(group, other)| group != other)
            .map(|(group, other)| (vec![group], vec![other]))
            .collect(),
        "within" => (0..n_groups).map(|group| (vec![2 * group], vec![2 * group + 1])).collect(),
        _ => panic!("no such comparisons"),
    };
    let n_units = if name == "within" { 2 * n_groups } else { n_groups };
    (n_units, sides.into_iter().enumerate().map(stratum).collect())
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("a file");
    let mut number =
        |default: usize| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (threads, budget, n_groups) = (number(2), number(6000), number(12));
    let name = args.next().unwrap_or_else(|| "rest".to_owned());
    let only = args.next();
    let runs = |task: &str| only.as_deref().is_none_or(|only| only == task);
    let at = path.clone();
    let open = Arc::new(move || {
        hdf5_metno::File::open(&at)
            .map_err(|_| scoom_core::error::Error::NotHdf5 { path: (&at).into() })
    });
    let source = open_matrix(Path::new(&path), "X", open).expect("a matrix");
    let source: &dyn Source = source.as_ref();
    let ctx = Ctx::new(threads, (budget as u64) << 20, std::env::temp_dir(), &Silent);
    let (n, m) = (source.n_obs(), source.n_vars());
    let ops = vec![Op::Normalize { target: 1e4, excluded: vec![] }, Op::Log1p { base: None }];
    let view = View::new(n, m, None, &Chain { ops, stored_log: None }).expect("a view");
    let raw = View::new(n, m, None, &Chain::default()).expect("a view");
    let codes = |groups: u32| -> Vec<u32> {
        (0..n).map(|row| Rng::new(1, row as u64).below(u64::from(groups)) as u32).collect()
    };
    let (n_units, strata) = design(&name, n_groups as u32);
    let contrasts =
        Contrasts::new(&codes(n_units), n_units as usize, &strata, None).expect("contrasts");
    let fold_change = FoldChange::LinearMeans { pseudocount: 0.1 };
    let alternative = Alternative::TwoSided;
    let all = TableOptions::all(Order::Auc, Some(Adjustment::BenjaminiHochberg));
    let many = n_groups * m > 4_000_000;
    let options = TableOptions { n_genes: many.then_some(100), ..all };

    if runs("sum") {
        let (start, used) = (Instant::now(), cpu());
        let many = Groups::new(codes(96), 96).expect("groups");
        let pass = GroupPass::<GroupSum>::new(&many, 0..m);
        let tiles = run_tiled(source, &raw, &ctx, "sum", &pass).expect("sums");
        let table = pass.table(tiles, &ctx).expect("sums");
        let total: f64 = (0..96).map(|g| table.group(g).map(|c| c.sum).sum::<f64>()).sum();
        let all = start.elapsed().as_secs_f64();
        println!("pseudobulk of 96 groups: {all:.3} s, cpu {:.2} (total {total})", cpu() - used);
    }
    if runs("t") {
        let (start, used) = (Instant::now(), cpu());
        let linear = view.clone().with_linear();
        let test = TTest { contrasts: &contrasts, spread: Spread::Welch, alternative, fold_change };
        let options = TableOptions { order: Order::Statistic, ..options };
        let table = run_moment_test(source, &linear, &ctx, &test, options).expect("a table");
        let all = start.elapsed().as_secs_f64();
        println!("t-test: {all:.3} s, cpu {:.2}, {} rows", cpu() - used, table.rows.len());
    }
    if runs("rank") {
        let (start, used) = (Instant::now(), cpu());
        let groups = contrasts.groups();
        let mut values = GeneMajor::read(source, &view, &ctx, groups, None).expect("values");
        let (read, read_cpu) = (start.elapsed().as_secs_f64(), cpu() - used);
        let test = Wilcoxon {
            contrasts: &contrasts,
            tie_correct: true,
            continuity: true,
            alternative,
            p_values: true,
            fold_change,
        };
        let table = test.run(&ctx, &view, &mut values, options).expect("a table");
        let all = start.elapsed().as_secs_f64();
        println!(
            "Wilcoxon: {all:.3} s, cpu {:.2} (reading {read:.3}, cpu {read_cpu:.2}), {} rows",
            cpu() - used,
            table.rows.len()
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("no peak memory"));
}
