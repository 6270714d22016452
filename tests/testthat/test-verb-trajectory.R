test_that("diffusion components are scanpy's", {
  x <- find_neighbors(open_reduced()) |> run_diffmap(n_comps = 15)
  evals <- reference_table("graph", "diffmap_evals")$value
  wanted <- as.matrix(reference_table("graph", "diffmap"))
  found <- without_names(x$obsm$X_diffmap)
  # float32 there.
  expect_lt(max(abs(x$uns$diffmap_evals - evals)), 1e-6)
  sign <- sign(colSums(found * wanted))
  difference <- sweep(wanted, 2, sign, "*") - found
  expect_lt(max(abs(difference)), 1e-4)
  expect_equal(colSums(found^2), rep(1, 15), tolerance = 1e-10)
  largest <- apply(abs(found), 2, which.max)
  expect_true(all(found[cbind(largest, 1:15)] > 0))
  expect_equal(colnames(x$obsm$X_diffmap)[1:2], c("DC1", "DC2"))
})

test_that("pseudotime is scanpy's", {
  x <- find_neighbors(open_reduced()) |> run_diffmap()
  root <- reference_index("graph")$root + 1
  wanted <- reference_table("graph", "pseudotime")$value
  x <- run_dpt(x, root = root, n_dcs = 10)
  found <- x$obs$dpt_pseudotime
  expect_equal(range(found), c(0, 1))
  expect_equal(which(found == 0), root)
  expect_gt(stats::cor(found, wanted, method = "spearman"), 0.9999)
  expect_lt(max(abs(found - wanted)), 1e-3)
  expect_equal(x$uns$iroot, root - 1)
  by_name <- run_dpt(x, root = obs_names(x)[[root]])
  expect_identical(by_name$obs$dpt_pseudotime, found)
})

test_that("threads do not matter", {
  x <- find_neighbors(open_reduced())
  one <- run_diffmap(x, threads = 1)
  four <- run_diffmap(x, threads = 4)
  expect_identical(one$obsm$X_diffmap, four$obsm$X_diffmap)
  expect_identical(one$uns$diffmap_evals, four$uns$diffmap_evals)
})

test_that("components that are not there are computed", {
  x <- find_neighbors(blobs(apart = 1), n_neighbors = 10)
  expect_message(
    y <- run_dpt(x, root = 1, n_dcs = 5),
    class = "scoom_message_diffmap_computed"
  )
  expect_true("X_diffmap" %in% names(y$obsm))
  wanted <- run_dpt(run_diffmap(x), root = 1, n_dcs = 5)
  expect_identical(y$obs$dpt_pseudotime, wanted$obs$dpt_pseudotime)
})

test_that("time ends at the border of a component", {
  x <- suppressMessages(find_neighbors(blobs(apart = 100), n_neighbors = 8))
  expect_message(
    x <- run_diffmap(x, n_comps = 10),
    class = "scoom_message_disconnected_graph"
  )
  message <- expect_message(
    x <- run_dpt(x, root = 1),
    class = "scoom_message_disconnected_graph"
  )
  expect_match(conditionMessage(message), "50 cells")
  time <- x$obs$dpt_pseudotime
  expect_equal(is.finite(time), x$obs$blob == "b1")
  expect_equal(range(time[1:40]), c(0, 1))
})

test_that("the connectivities of groups are scanpy's", {
  x <- find_neighbors(open_reduced()) |> run_paga(group_by = "bulk_labels")
  groups <- reference_index("graph")$paga_groups
  wanted <- as.matrix(reference_table("graph", "paga"))
  n <- length(groups)
  found <- x$uns$paga
  expect_equal(rownames(found$connectivities), groups)
  expect_equal(
    as.vector(as.matrix(found$connectivities)),
    as.vector(wanted[, seq_len(n)]),
    tolerance = 1e-12
  )
  expect_equal(
    as.vector(as.matrix(found$connectivities_tree)),
    as.vector(wanted[, n + seq_len(n)]),
    tolerance = 1e-12
  )
  expect_equal(sum(found$connectivities_tree > 0), 2 * (n - 1))
  expect_equal(found$groups, "bulk_labels")
  expect_equal(found$sizes, c(table(x$obs$bulk_labels)))
})

test_that("groups that nothing connects make a forest", {
  x <- suppressMessages(find_neighbors(blobs(apart = 100), n_neighbors = 8))
  message <- expect_message(
    x <- run_paga(x, group_by = "blob"),
    class = "scoom_message_disconnected_graph"
  )
  expect_match(conditionMessage(message), "3 parts")
  expect_true(all(as.matrix(x$uns$paga$connectivities) == 0))
  y <- suppressMessages(find_neighbors(blobs(apart = 1), n_neighbors = 10))
  expect_no_message(run_paga(y, group_by = "blob"))
})

test_that("cells without a group count nowhere", {
  x <- find_neighbors(blobs(apart = 1), n_neighbors = 10)
  local_quiet()
  group <- ifelse(seq_len(90) %% 9 == 0, NA, x$obs$blob)
  found <- run_paga(x, group_by = group)$uns$paga
  used <- which(!is.na(group))
  edges <- as.matrix(x$obsp$distances)[used, used] > 0
  own <- factor(group[used])
  between <- t(rowsum(t(rowsum(edges * 1, own)), own))
  leaving <- rowSums(between)
  size <- table(own)
  expected <- outer(leaving, size) + outer(size, leaving)
  wanted <- pmin((between + t(between)) / (expected / (length(used) - 1)), 1)
  diag(wanted) <- 0
  expect_equal(
    as.matrix(found$connectivities),
    unclass(wanted),
    ignore_attr = TRUE
  )
})

test_that("groups are laid out", {
  skip_if_not_installed("igraph")
  x <- find_neighbors(open_reduced()) |> run_paga(group_by = "bulk_labels")
  for (layout in c("fr", "kk", "tree")) {
    withr::with_seed(1, {
      before <- get(".Random.seed", globalenv())
      at <- paga_layout(x, layout)
      expect_identical(get(".Random.seed", globalenv()), before)
    })
    expect_named(at, c("group", "x", "y", "size"))
    expect_equal(levels(at$group), levels(x$obs$bulk_labels))
    expect_true(all(is.finite(at$x) & is.finite(at$y)))
    expect_identical(paga_layout(x, layout), at)
  }
  tree <- paga_layout(x, "tree", root = "Dendritic")
  expect_equal(as.character(tree$group[which.max(tree$y)]), "Dendritic")
  expect_error(
    paga_layout(x, "tree", root = "nobody"),
    class = "scoom_error_group_missing"
  )
  expect_missing_package(paga_layout(x), "igraph")
})

test_that("bad input is refused", {
  x <- blobs(apart = 1)
  expect_snapshot(error = TRUE, {
    run_diffmap(x)
    run_paga(x, group_by = "blob")
    paga_layout(x)
  })
  x <- find_neighbors(x, n_neighbors = 10)
  expect_snapshot(error = TRUE, {
    run_diffmap(x, n_comps = 90)
    run_diffmap(x, n_comps = 1)
    run_dpt(x, root = "nobody")
    run_dpt(x, root = 91)
    run_dpt(x, root = c(1, 2))
    run_dpt(run_diffmap(x, n_comps = 5), root = 1)
    run_paga(x, group_by = "nothing")
    run_paga(x, group_by = rep("all", 90))
  })
  expect_error(
    run_dpt(x),
    "root.*missing",
    class = "scoom_error_invalid_input"
  )
  # Far apart cells of a selection have no neighbours left.
  few <- x[c(1, 50, 90), ]
  expect_error(
    suppressMessages(run_diffmap(few, n_comps = 2)),
    class = "scoom_error_incomplete_graph"
  )
})

test_that("a graph that is not one of symmetric weights is refused", {
  x <- find_neighbors(blobs(apart = 1), n_neighbors = 10)
  for (value in list(0.123, NA_real_, -1)) {
    y <- x
    graph <- y$obsp$connectivities
    graph@x[[1]] <- value
    y$obsp$connectivities <- graph
    expect_error(run_diffmap(y), class = "scoom_error_invalid_graph")
  }
})

test_that("pseudotime of too few cells names its own argument", {
  x <- quietly(find_neighbors(blobs(c(3, 3), apart = 0.1), n_neighbors = 6))
  error <- expect_error(
    run_dpt(x, root = 1),
    "`n_dcs` is too large",
    class = "scoom_error_too_many_components"
  )
  expect_identical(error$argument, "n_dcs")
  expect_identical(error$maximum, 5)
})
