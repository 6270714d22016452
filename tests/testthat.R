library(testthat)
library(scoom)

test_check("scoom")
