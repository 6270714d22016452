# Variable genes by dispersions within bins of the mean: `flavor = "seurat"` and
# `"cell_ranger"`.

by_dispersion <- function(x, layer, settings, batches, run) {
  call <- run$call
  plan <- log_plan(x, layer, settings$flavor, call)
  linear <- settings$flavor == "seurat"
  args <- c(
    list(
      method = settings$flavor,
      n_bins = settings$n_bins,
      n_top = settings$n_top
    ),
    settings$bounds
  )
  if (is.null(batches$group)) {
    passed <- list(rs_qc_gene_moments, plan, list(linear = linear))
    found <- do.call(run_pass, c(passed, run))
    check_moments(found$values, x, call)
    overall <- found$values
    moments <- if (linear) found$linear else overall
    args <- c(moments[c("mean", "var")], args)
    genes <- rs_unwrap(rs_hvg_dispersion(args), call)
  } else {
    passed <- list(linear = linear)
    found <- run_batch_pass(rs_hvg_moments, plan, passed, batches, run)
    overall <- if (batches$all) found$overall
    args <- c(
      found[c("mean", "var")],
      args,
      list(
        n_groups = as.double(length(batches$sizes)),
        name_order = order(order(var_names(x), method = "radix"))
      )
    )
    genes <- rs_unwrap(rs_hvg_dispersion_batches(args), call)
  }
  if (is.null(layer) && !is.null(overall)) {
    x <- remember_moments(x, overall)
  }
  list(x = x, genes = genes)
}

# Kept beside the object's columns for scale_genes().
remember_moments <- function(x, moments) {
  recipe <- x_recipe(x)
  recipe$ops <- Filter(\(op) op$op != "scale", recipe$ops)
  set_field(
    x,
    "moments",
    list(
      state = matrix_state(x, recipe),
      mean = moments$mean,
      var = moments$var,
      detected = moments$detected
    )
  )
}

# The plan of logarithms; raw counts are refused. Where nothing but the values
# themselves says that they are logarithms, a message does.
log_plan <- function(x, layer, flavor, call = caller_env()) {
  plan <- scoom_plan(x, layer = layer, drop_scale = TRUE, call = call)
  in_chain <- any(vapply(
    plan$ops,
    \(op) op$op %in% c("normalize", "log1p"),
    NA
  ))
  if (in_chain) {
    return(plan)
  }
  recipe <- if (is.null(layer)) {
    x_recipe(x, call)
  } else {
    layer_recipe(x, layer, call)
  }
  seen <- peek_values(x, recipe, call)
  if (!is.null(seen)) {
    check_first_values(seen, x, call)
  }
  # A file may say that logarithms were taken, and hold what was scaled afterwards.
  if (!is.null(plan$stored_log)) {
    return(plan)
  }
  is_log <- is_true(seen$is_log_normalized) ||
    !is.null(seen) && looks_logged(seen)
  if (!is_log) {
    abort_not_logged(seen, layer, flavor, call)
  }
  scoom_inform(
    c(
      i = "The file does not say what its values are; they are taken for natural logarithms."
    ),
    class = "assumed_logged"
  )
  plan$stored_log <- exp(1)
  plan
}

abort_not_logged <- function(seen, layer, flavor, call) {
  what <- if (is.null(layer)) "X" else paste("Layer", layer)
  counts <- !is.null(seen) && is.null(seen$check$fractional)
  scoom_abort(
    c(
      "{.code flavor = \"{flavor}\"} needs logarithms of normalised counts.",
      x = if (is.null(seen)) {
        "Nothing says that {what} holds logarithms."
      } else if (counts) {
        "{what} holds counts."
      } else {
        "{what} holds values up to {signif(seen$max, 3)}."
      },
      i = "First {.code normalize_total(target_sum = 1e4) |> log1p()}.",
      i = if (counts) "{.code flavor = \"seurat_v3\"} takes counts."
    ),
    class = "not_logged",
    call = call
  )
}

check_moments <- function(moments, x, call) {
  bad <- which(!is.finite(moments$mean))
  if (length(bad)) {
    gene <- view_names(x, "var")[[bad[[1]]]]
    scoom_abort(
      c(
        "{length(bad)} gene{?s} {?has/have} values that are not finite.",
        x = "The first is {.val {gene}}."
      ),
      class = "invalid_values",
      call = call
    )
  }
}
