# Scores of gene sets, and of the cell cycle.

#' Score cells by sets of genes
#'
#' The mean of a set's genes in each cell, less the mean of control genes that are
#' expressed about as much. Running verbs: one pass over the file for any number of sets,
#' and one for the means of the genes where they are not known.
#'
#' @details
#' `method = "scanpy"`, as `scanpy.tl.score_genes()` of scanpy 1.11:
#'
#' 1. The mean of every gene of `gene_pool` over all cells.
#' 2. Genes are ranked by it (ties have the least rank) and fall into bins of
#'    \eqn{s = n / (\code{n_bins} - 1)} genes, rounded: gene with rank \eqn{r} into bin
#'    \eqn{\lfloor r / s \rfloor}.
#' 3. From each bin with a gene of the set, up to `ctrl_size` genes are drawn at
#'    random. With `ctrl_as_ref = TRUE` they are drawn from all genes of the bin, and
#'    those of the set are left out afterwards; with `FALSE`, before.
#' 4. The score of a cell is the mean of the set's genes less the mean of all control
#'    genes.
#'
#' `method = "seurat"`, as `AddModuleScore()` of Seurat 4.3: bins between `n_bins + 1` quantiles of
#' the means, genes without counts spread over them by minute noise; for each gene of the set
#' `ctrl_size` genes of its bin, which may be of the set; a gene drawn for several counts once.
#'
#' Random numbers are scoom's own and can't be those of other tools: with the same control
#' genes (`control_genes`) the scores are the same to rounding. What is drawn depends on `seed`
#' and the genes, not on other sets or their order, so that one call with many sets gives the
#' numbers of many calls. The genes used are in `uns$gene_scores`.
#'
#' Values that are `NaN` are left out of means, as scanpy does. Means that agree to 12 digits
#' count as ties. Scores use the chain of X without [scale_genes()], with a message: means
#' of scaled genes say nothing of their expression. Scores of raw counts show the depth of
#' sequencing, and give a message too; so do stored values that are negative and may be scaled
#' (class `scoom_message_looks_scaled`).
#'
#' `score_cell_cycle()` scores both lists with as many control genes as the shorter has.
#' A cell is in `"G1"` where both scores are negative, otherwise in the phase with the larger score;
#' where they are equal, in `"S"` as in scanpy, or `"Undecided"` as in Seurat.
#'
#' Memory: 16 bytes a cell and set, 16 bytes a gene and about 50 MB per thread.
#'
#' Genes that are not there are a warning of class `scoom_warning_genes_absent`; a set without
#' any gene is an error of class `scoom_error_empty_gene_set`, one without control
#' genes `scoom_error_no_controls`, and genes of a set outside `gene_pool`
#' `scoom_error_outside_pool`.
#'
#' @inheritParams calc_qc_metrics
#' @param gene_sets A named list of sets, whose names become columns of `obs`; or one set, for
#'   the column `score`. A set is a vector of gene names (positions and logicals
#'   select as in `x[, j]`); a gene that it has twice counts once.
#' @param method The algorithm: `"scanpy"` or `"seurat"`.
#' @param ctrl_size Control genes drawn from a bin, or for `"seurat"` for each gene.
#' @param n_bins The number of bins.
#' @param gene_pool Genes that can be controls, selected as in `x[, j]`; `NULL` for all.
#' @param ctrl_as_ref Whether genes of the set take part in the draw; for `"scanpy"` alone.
#' @param control_genes Control genes to use instead of drawing them: one vector for all
#'   sets, or a list with the names of `gene_sets`. `NULL` to draw.
#' @param layer A layer to score; `NULL` for X with its chain.
#' @param use_raw Whether to score `raw`.
#' @param seed A whole number that random draws follow from.
#' @returns `score_genes()`: `x` with a column of `obs` for each set, and in `uns$gene_scores` for
#'   each a list of `genes`, `control_genes`, `method`, `ctrl_size`, `n_bins`, `ctrl_as_ref`
#'   and `seed`.
#'   `score_cell_cycle()`: `x` with the columns `S_score`, `G2M_score` and the factor `phase`.
#' @references
#' Tirosh et al. (2016) Dissecting the multicellular ecosystem of metastatic melanoma by
#' single-cell RNA-seq. *Science* 352, 189. \doi{10.1126/science.aad0501}
#'
#' Satija, Farrell, Gennert, Schier, Regev (2015) Spatial reconstruction of
#' single-cell gene expression data. *Nature Biotechnology* 33, 495.
#' \doi{10.1038/nbt.3192}
#'
#' Wolf, Angerer, Theis (2018) SCANPY: large-scale single-cell gene expression data
#' analysis. *Genome Biology* 19, 15. \doi{10.1186/s13059-017-1382-0}
#' @seealso [cell_cycle_genes()]
#' @export
#' @examples
#' x <- open_h5ad(example_h5ad()) |>
#'   normalize_total(target_sum = 1e4) |>
#'   log1p()
#' sets <- list(first = var_names(x)[1:20], second = var_names(x)[30:60])
#' x <- score_genes(x, sets, ctrl_size = 20)
#' summary(x$obs[c("first", "second")])
#' head(x$uns$gene_scores$first$control_genes)
score_genes <- function(
  x,
  gene_sets,
  method = c("scanpy", "seurat"),
  ctrl_size = if (method == "seurat") 100 else 50,
  n_bins = if (method == "seurat") 24 else 25,
  gene_pool = NULL,
  ctrl_as_ref = TRUE,
  control_genes = NULL,
  layer = NULL,
  use_raw = FALSE,
  seed = 0,
  threads = NULL,
  BPPARAM = NULL,
  progress = NULL
) {
  call <- current_env()
  check_scoom(x)
  method <- check_choice(method, c("scanpy", "seurat"))
  draw <- list(
    method = method,
    ctrl_size = ctrl_size,
    n_bins = n_bins,
    ctrl_as_ref = ctrl_as_ref,
    seed = seed
  )
  check_draw(draw, call)
  source <- score_source(x, layer, use_raw, call)
  sets <- score_sets(source$genes_of, gene_sets, call)
  run <- list(threads = threads, BPPARAM = BPPARAM, progress = progress)
  scored <- scores_of(
    x,
    source,
    sets,
    gene_pool,
    control_genes,
    draw,
    run,
    call
  )
  add_scores(x, source, sets, scored, draw, drawn = is.null(control_genes))
}

check_draw <- function(draw, call) {
  check_count(draw$ctrl_size, min = 1, arg = "ctrl_size", call = call)
  least <- if (draw$method == "scanpy") 2 else 1
  check_count(draw$n_bins, min = least, arg = "n_bins", call = call)
  check_flag(draw$ctrl_as_ref, arg = "ctrl_as_ref", call = call)
  check_seed(draw$seed, call)
  if (draw$method == "seurat" && !draw$ctrl_as_ref) {
    scoom_abort(
      c(
        "{.code ctrl_as_ref = FALSE} is for {.code method = \"scanpy\"} alone.",
        x = "Seurat draws from all genes of a bin."
      ),
      class = "invalid_input",
      call = call,
      argument = "ctrl_as_ref"
    )
  }
}

# Which values are scored: the object whose genes they have, the recipe.
score_source <- function(x, layer, use_raw, call) {
  check_string(layer, allow_null = TRUE, call = call)
  check_flag(use_raw, call = call)
  if (use_raw && !is.null(layer)) {
    scoom_abort(
      "Give either {.arg layer} or {.code use_raw = TRUE}.",
      class = "invalid_input",
      call = call
    )
  }
  if (use_raw) {
    check_has_raw(x, call)
  }
  genes_of <- if (use_raw) raw_view(x) else x
  recipe <- if (is.null(layer)) {
    x_recipe(genes_of, call)
  } else {
    layer_recipe(x, layer, call)
  }
  if (recipe_has(recipe, "scale")) {
    scoom_inform(
      c(i = "Scores use the values before {.fn scale_genes}."),
      class = "before_scaling"
    )
  }
  if (is.null(layer) && !use_raw && !is.null(field(x, "file")$raw)) {
    scoom_inform(
      c(
        i = "Scores use {.field X}; the file has {.field raw} too: {.code use_raw = TRUE} takes that."
      ),
      class = "raw_not_used"
    )
  }
  recipe <- without_scale(recipe)
  note_counts(genes_of, recipe, layer, call)
  note_scaled(
    genes_of,
    recipe,
    layer,
    "Scores are meant for logarithms: {.code use_raw = TRUE} or {.arg layer} may have them.",
    call
  )
  list(genes_of = genes_of, recipe = recipe, layer = layer)
}

# A named list of positions.
score_sets <- function(x, gene_sets, call) {
  check_given(gene_sets, "a set of genes, or a named list of sets", call = call)
  if (!is.list(gene_sets)) {
    gene_sets <- list(score = gene_sets)
  }
  is_valid <- length(gene_sets) > 0 && is_named(gene_sets)
  if (!is_valid || anyDuplicated(names(gene_sets))) {
    scoom_abort(
      c(
        "{.arg gene_sets} must be a vector of genes or a list of such with unique names.",
        i = "For example {.code list(t_cell = c(\"CD3D\", \"CD3E\"))}."
      ),
      class = "invalid_input",
      call = call,
      argument = "gene_sets"
    )
  }
  sets <- list()
  for (name in names(gene_sets)) {
    sets[[name]] <- genes_there(x, gene_sets[[name]], name, call)
    if (!length(sets[[name]])) {
      scoom_abort(
        c(
          "No gene of the set {.field {name}} is there.",
          i = if (n_vars(x) > 0) {
            "Names of genes are like {.val {head_of(var_names(x), 3)}}."
          }
        ),
        class = "empty_gene_set",
        call = call,
        set = name
      )
    }
  }
  sets
}

# Positions of those genes of a set that are there, each once; the rest is a warning.
genes_there <- function(x, set, name, call) {
  if (is.character(set)) {
    set <- unique(set)
    absent <- setdiff(set, var_names(x))
    warn_absent_genes(absent, name, var_names(x), call)
    set <- setdiff(set, absent)
  } else if (!is.numeric(set) && !is.logical(set)) {
    abort_type(set, "a vector of genes", name, call)
  }
  if (!length(set)) {
    return(integer())
  }
  unique(resolve_genes(x, set, call))
}

scores_of <- function(
  x,
  source,
  sets,
  gene_pool,
  control_genes,
  draw,
  run,
  call
) {
  genes_of <- source$genes_of
  check_has_cells(x, call)
  plan <- recipe_plan(genes_of, source$recipe, call = call)
  on_plan <- function(fn, args, label) {
    run_pass(
      fn,
      plan,
      args,
      threads = run$threads,
      BPPARAM = run$BPPARAM,
      progress = run$progress,
      label = label,
      call = call
    )
  }
  pool <- score_pool(genes_of, gene_pool, call)
  controls <- if (is.null(control_genes)) {
    check_in_pool(genes_of, sets, pool, call)
    means <- gene_means(source, plan, on_plan)
    check_set_means(genes_of, sets, means, call)
    draw_controls(means, pool, sets, draw, call)
  } else {
    given_controls(genes_of, control_genes, names(sets), call)
  }
  scores <- on_plan(
    rs_score_sets,
    list(sets = unname(sets), controls = unname(controls)),
    "Scores"
  )
  list(controls = controls, scores = set_names(scores, names(sets)))
}

score_pool <- function(x, gene_pool, call) {
  if (is.null(gene_pool)) {
    return(seq_len(n_vars(x)))
  }
  pool <- sort(genes_there(x, gene_pool, "gene_pool", call))
  if (!length(pool)) {
    scoom_abort(
      "No gene of {.arg gene_pool} is there.",
      class = "empty_gene_set",
      call = call,
      set = "gene_pool"
    )
  }
  pool
}

check_in_pool <- function(x, sets, pool, call) {
  for (name in names(sets)) {
    outside <- setdiff(sets[[name]], pool)
    if (length(outside)) {
      scoom_abort(
        c(
          "Genes of the set {.field {name}} are not in {.arg gene_pool}.",
          x = "{cli::qty(length(outside))}{?It is/They are} {.val {head_of(var_names(x)[outside], 5)}}.",
          i = "Controls come from the bins of the set's genes: add them to the pool."
        ),
        class = "outside_pool",
        call = call,
        set = name
      )
    }
  }
}

# Means over the cells: those that find_variable_genes() left, those of this session,
# or a pass.
gene_means <- function(source, plan, on_plan) {
  known <- if (is.null(source$layer)) {
    remembered_means(source$genes_of, source$recipe)
  }
  if (!is.null(known)) {
    return(known)
  }
  cached(source$genes_of, paste0("gene_means:", hash(plan)), \() {
    on_plan(rs_score_means, list(), "Means of genes")
  })
}

# Means of the genes selected now that are kept beside the object, or NULL.
remembered_means <- function(x, recipe) {
  kept <- field(x, "moments")
  now <- matrix_state(x, recipe)
  if (!same_values(kept$state, now) || !identical(kept$state$rows, now$rows)) {
    return(NULL)
  }
  at <- positions_in(kept$state$cols, now$cols)
  if (anyNA(at)) {
    return(NULL)
  }
  if (is.null(at)) kept$mean else kept$mean[at]
}

check_set_means <- function(x, sets, means, call) {
  genes <- unlist(sets, use.names = FALSE)
  bad <- genes[!is.finite(means[genes])]
  if (length(bad)) {
    scoom_abort(
      c(
        "{length(unique(bad))} gene{?s} of the sets {?has/have} no finite mean.",
        x = "The first is {.val {var_names(x)[[bad[[1]]]]}}."
      ),
      class = "invalid_values",
      call = call
    )
  }
}

draw_controls <- function(means, pool, sets, draw, call) {
  args <- c(list(mean = means, pool = pool, sets = unname(sets)), draw)
  drawn <- rs_unwrap(rs_score_controls(args), call)
  controls <- set_names(lapply(drawn, `[[`, "genes"), names(sets))
  for (k in seq_along(sets)) {
    name <- names(sets)[[k]]
    if (!length(controls[[k]])) {
      scoom_abort(
        c(
          "There are no control genes for the set {.field {name}}.",
          x = "The bins of its genes have no other.",
          i = if (draw$ctrl_as_ref) "Try {.code ctrl_as_ref = FALSE}.",
          i = "Fewer {.arg n_bins} or a larger {.arg gene_pool} give larger bins."
        ),
        class = "no_controls",
        call = call,
        set = name
      )
    }
    n_empty <- length(drawn[[k]]$empty_bins)
    if (n_empty > 0) {
      scoom_warn(
        c(
          "{n_empty} bin{?s} of the set {.field {name}} {cli::qty(n_empty)}{?has/have} no control genes.",
          i = "Fewer {.arg n_bins} or a larger {.arg gene_pool} give larger bins."
        ),
        class = "empty_bins",
        call = call,
        set = name
      )
    }
  }
  controls
}

given_controls <- function(x, control_genes, names, call) {
  if (!is.list(control_genes)) {
    control_genes <- set_names(rep(list(control_genes), length(names)), names)
  }
  if (!is_named(control_genes) || !setequal(names(control_genes), names)) {
    scoom_abort(
      c(
        "{.arg control_genes} must be a vector of genes, or a list with the names of the sets.",
        x = "The sets are {.field {names}}."
      ),
      class = "invalid_input",
      call = call,
      argument = "control_genes"
    )
  }
  controls <- list()
  for (name in names) {
    genes <- genes_there(x, control_genes[[name]], name, call)
    if (!length(genes)) {
      scoom_abort(
        "No control gene of the set {.field {name}} is there.",
        class = "no_controls",
        call = call,
        set = name
      )
    }
    controls[[name]] <- genes
  }
  controls
}

add_scores <- function(x, source, sets, scored, draw, drawn) {
  x <- set_obs(x, scored$scores)
  genes <- var_names(source$genes_of)
  kept <- if ("gene_scores" %in% field(x, "slots")$uns$keys) {
    x$uns$gene_scores
  }
  if (!is_bare_list(kept)) {
    kept <- list()
  }
  for (name in names(sets)) {
    kept[[name]] <- c(
      list(
        genes = genes[sets[[name]]],
        control_genes = genes[scored$controls[[name]]]
      ),
      if (drawn) draw
    )
  }
  set_uns(x, "gene_scores", kept)
}

# The cell cycle --------------------------------------------------------------------

#' @rdname score_genes
#' @param s_genes,g2m_genes Genes of the S and the G2M phase; by default those of
#'   [cell_cycle_genes()], which are human.
#' @param ... Further arguments of `score_genes()`; of them `ctrl_size` is by default the
#'   length of the shorter list.
#' @export
score_cell_cycle <- function(
  x,
  s_genes = cell_cycle_genes()$s_genes,
  g2m_genes = cell_cycle_genes()$g2m_genes,
  method = c("scanpy", "seurat"),
  ctrl_size = min(length(s_genes), length(g2m_genes)),
  ...
) {
  call <- current_env()
  check_scoom(x)
  method <- check_choice(method, c("scanpy", "seurat"))
  for (arg in c("s_genes", "g2m_genes")) {
    genes <- get(arg)
    if (is.list(genes) || !length(genes)) {
      abort_type(genes, "a vector of genes", arg, call)
    }
  }
  sets <- list(S_score = s_genes, G2M_score = g2m_genes)
  x <- try_fetch(
    score_genes(x, sets, method = method, ctrl_size = ctrl_size, ...),
    scoom_error_empty_gene_set = function(e) {
      scoom_abort(
        c(
          "There are no genes of the cell cycle.",
          i = "{.code cell_cycle_genes(\"mouse\")} has the names of the mouse; {.arg s_genes} and {.arg g2m_genes} take others."
        ),
        class = "empty_gene_set",
        call = call,
        parent = e
      )
    }
  )
  s <- obs_column(x, "S_score", call)
  g2m <- obs_column(x, "G2M_score", call)
  phase <- ifelse(g2m > s, "G2M", "S")
  if (method == "seurat") {
    phase[which(g2m == s)] <- "Undecided"
  }
  phase[which(s < 0 & g2m < 0)] <- "G1"
  levels <- c("G1", "S", "G2M", if (method == "seurat") "Undecided")
  set_obs(x, list(phase = factor(phase, levels)))
}

#' Genes of the cell cycle
#'
#' The genes of the S and the G2M phase that Tirosh et al. (2016) list, which scanpy's and
#' Seurat's tutorials use. Symbols are those of 2016: some have other names in newer annotations,
#' such as `MLF1IP` (`CENPU`), `FAM64A` (`PIMREG`) and `HN1` (`JPT1`).
#'
#' @param species `"human"`, or `"mouse"` for the same symbols in the mouse's spelling: the first
#'   letter large, the others small. Orthologues are not looked up.
#' @returns A list of `s_genes`, 43 names, and `g2m_genes`, 54 names.
#' @references
#' Tirosh et al. (2016) Dissecting the multicellular ecosystem of metastatic melanoma by
#' single-cell RNA-seq. *Science* 352, 189. \doi{10.1126/science.aad0501}
#' @seealso [score_cell_cycle()]
#' @export
#' @examples
#' lengths(cell_cycle_genes())
#' head(cell_cycle_genes("mouse")$s_genes)
cell_cycle_genes <- function(species = c("human", "mouse")) {
  species <- check_choice(species, c("human", "mouse"))
  genes <- lapply(human_cell_cycle, \(line) strsplit(line, " ")[[1]])
  if (species == "mouse") {
    genes <- lapply(genes, \(g) {
      paste0(substr(g, 1, 1), tolower(substring(g, 2)))
    })
  }
  genes
}

human_cell_cycle <- list(
  s_genes = paste(
    "MCM5 PCNA TYMS FEN1 MCM2 MCM4 RRM1 UNG GINS2 MCM6 CDCA7 DTL PRIM1 UHRF1 MLF1IP",
    "HELLS RFC2 RPA2 NASP RAD51AP1 GMNN WDR76 SLBP CCNE2 UBR7 POLD3 MSH2 ATAD2 RAD51",
    "RRM2 CDC45 CDC6 EXO1 TIPIN DSCC1 BLM CASP8AP2 USP1 CLSPN POLA1 CHAF1B BRIP1 E2F8"
  ),
  g2m_genes = paste(
    "HMGB2 CDK1 NUSAP1 UBE2C BIRC5 TPX2 TOP2A NDC80 CKS2 NUF2 CKS1B MKI67 TMPO CENPF",
    "TACC3 FAM64A SMC4 CCNB2 CKAP2L CKAP2 AURKB BUB1 KIF11 ANP32E TUBB4B GTSE1 KIF20B",
    "HJURP CDCA3 HN1 CDC20 TTK CDC25C KIF2C RANGAP1 NCAPD2 DLGAP5 CDCA2 CDCA8 ECT2",
    "KIF23 HMMR AURKA PSRC1 ANLN LBR CKAP5 CENPE CTCF NEK2 G2E3 GAS2L3 CBX5 CENPA"
  )
)
