//! Times differential expression on one file: a bare inflate is what
//! `passes` reports as its first line.
//! usage: de FILE [threads] [budget in MB] [groups] [rank]: with `rank` Wilcoxon alone

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use scoom_core::ctx::{Ctx, Silent};
use scoom_core::de::contrast::{Comparison, Contrasts, Reference};
use scoom_core::de::fold_change::FoldChange;
use scoom_core::de::gene_major::GeneMajor;
use scoom_core::de::group_pass::GroupPass;
use scoom_core::de::groups::Groups;
use scoom_core::de::moments::{GroupMoments, GroupSum};
use scoom_core::de::table::{MarkerTable, Order};
use scoom_core::de::ttest::{Spread, TTest};
use scoom_core::de::wilcoxon::Wilcoxon;
use scoom_core::matrix::{Source, open_matrix};
use scoom_core::pass::run_tiled;
use scoom_core::stats::adjust::Adjustment;
use scoom_core::stats::random::Rng;
use scoom_core::transform::{Chain, Op, View};

/// Seconds of processor time that all threads used so far, in steps of 10 ms.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.split(' ').skip(13).take(2).filter_map(|n| n.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("a file");
    let mut number =
        |default: usize| args.next().map_or(default, |text| text.parse().expect("a number"));
    let (threads, budget, n_groups) = (number(2), number(6000), number(12));
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
    let codes = |groups: usize| -> Vec<u32> {
        (0..n).map(|row| Rng::new(1, row as u64).below(groups as u64) as u32).collect()
    };
    let rest = |group| Comparison { group, reference: Reference::Rest };
    let comparisons: Vec<Comparison> = (0..n_groups as u32).map(rest).collect();
    let contrasts = Contrasts::new(&codes(n_groups), n_groups, &comparisons).expect("contrasts");
    let fold_change = FoldChange::LinearMeans { pseudocount: 0.1 };
    let bh = Some(Adjustment::BenjaminiHochberg);

    if args.next().is_none() {
        let (start, used) = (Instant::now(), cpu());
        let many = Groups::new(codes(96), 96).expect("groups");
        let pass = GroupPass::<GroupSum>::new(&many, 0..m);
        let table = pass.table(run_tiled(source, &raw, &ctx, "sum", &pass).expect("sums"));
        let total: f64 = (0..96).map(|g| table.group(g).iter().map(|c| c.sum).sum::<f64>()).sum();
        let all = start.elapsed().as_secs_f64();
        println!("pseudobulk of 96 groups: {all:.3} s, cpu {:.2} (total {total})", cpu() - used);

        let (start, used) = (Instant::now(), cpu());
        let linear = view.clone().with_linear();
        let pass = GroupPass::<GroupMoments>::new(contrasts.groups(), 0..m);
        let table =
            pass.table(run_tiled(source, &linear, &ctx, "moments", &pass).expect("moments"));
        let (read, read_cpu) = (start.elapsed().as_secs_f64(), cpu() - used);
        let test = TTest { contrasts: &contrasts, spread: Spread::Welch, fold_change };
        let rows = test.rows(&ctx, &table, 0..m).expect("rows");
        let table = MarkerTable::new(&rows, n_groups, Order::Statistic, bh);
        let all = start.elapsed().as_secs_f64();
        println!(
            "t-test: {all:.3} s, cpu {:.2} (reading {read:.3}, cpu {read_cpu:.2}), {} rows",
            cpu() - used,
            table.rows.len()
        );
    }

    let (start, used) = (Instant::now(), cpu());
    let values = GeneMajor::read(source, &view, &ctx, contrasts.groups(), None).expect("values");
    let (read, read_cpu) = (start.elapsed().as_secs_f64(), cpu() - used);
    let (tie_correct, continuity) = (true, true);
    let test = Wilcoxon { contrasts: &contrasts, tie_correct, continuity, fold_change };
    let rows = test.rows(&ctx, &view, &values).expect("rows");
    let table = MarkerTable::new(&rows, n_groups, Order::Auc, bh);
    let all = start.elapsed().as_secs_f64();
    println!(
        "Wilcoxon: {all:.3} s, cpu {:.2} (reading {read:.3}, cpu {read_cpu:.2}), {} rows",
        cpu() - used,
        table.rows.len()
    );
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("no peak memory"));
}
