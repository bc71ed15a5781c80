#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
#
# tools/mutate on a project of one function.
#
# shellcheck disable=SC2154 # stderr and lines come from run

bats_require_minimum_version 1.5.0

setup() {
    root=$BATS_TEST_DIRNAME/../..
    cd "$BATS_TEST_TMPDIR" || exit
    mkdir -p tools docs include src tests/unit tests/mutation
    cp "$root/tools/mutate" tools
    cp "$root"/tests/mutation/*.py tests/mutation
    echo 'int smaller(int a, int b);' >include/smaller.hpp
    cat >src/smaller.cpp <<'CPP'
#include "smaller.hpp"

int smaller(int a, int b) {
    // a < b is not code here, and "a < b" is not either
    while (a < b) {
        return a;
    }
    return b;
}
CPP
    cat >tests/unit/smaller_test.cpp <<'CPP'
#include "smaller.hpp"

#include <gtest/gtest.h>

TEST(Smaller, IsTheSmallerOne) {
    EXPECT_EQ(smaller(1, 2), 1);
    EXPECT_EQ(smaller(2, 1), 1);
}
CPP
    cat >equal.md <<'MD'
# Mutants

## src/smaller.cpp

```diff
@@ int smaller(int a, int b) {
-while (a < b) {
+while (a <= b) {
```

Of two that are equal either is the smaller one.
MD
}

mutate() {
    tools/mutate --jobs 1 "$@" src/smaller.cpp
}

@test "the changes are listed, and nothing is done" {
    run -0 mutate --list
    [[ ${lines[0]} == *" src/smaller.cpp:5 compare" ]]
    [ "${lines[3]}" = "+while (a <= b) {" ]
    [[ ${lines[4]} == *" src/smaller.cpp:6 drop" ]]
    [ "${lines[6]}" = "-return a;" ]
    [ "${#lines[@]}" = 7 ]
}

@test "a survivor is shown as the page wants it, a hang is caught, and the sources stay as they are" {
    cp -r . ../before
    run -1 mutate
    [[ $output == *"compare: survived"* ]]
    [[ $output == *"drop: caught by Smaller.IsTheSmallerOne (hangs)"* ]]
    [[ $output == *"new survivor, src/smaller.cpp:5
$(sed -n '/^@@/,/^+/p' equal.md)
"* ]]
    [[ ${lines[-1]} == "1 of 2 mutants caught, 50.0 %; 1 survived, 1 of them not explained"* ]]
    diff -r . ../before
}

@test "an explained survivor still counts as one, and no sample has it" {
    cp equal.md docs/mutants.md
    run -1 mutate --only 1
    [[ ${lines[-1]} == "0 of 1 mutants caught, 0.0 %; 1 survived, 0 of them not explained"* ]]
    run -0 mutate --sample 10
    [[ ${lines[-1]} == "1 of 1 mutants caught, 100.0 %; 0 survived,"* ]]
}

@test "an explanation of what is not there any more is an error" {
    sed 's/a < b/a < c/' equal.md >docs/mutants.md
    run -1 --separate-stderr mutate --sample 1
    [[ $stderr == "docs/mutants.md explains a mutant that is not there: src/smaller.cpp"* ]]
}

@test "a change that does not compile does not count" {
    sed -i 's/while/if/; s/^    return b;/    else { return b; }/' src/smaller.cpp
    run -1 mutate
    [[ $output == *"drop: does not compile"* ]]
    [[ ${lines[-1]} == "0 of 1 mutants caught"* ]]
}

@test "tests that fail without a change are an error" {
    sed -i 's/2, 1), 1/2, 1), 2/' tests/unit/smaller_test.cpp
    run -2 --separate-stderr mutate
    [ "$stderr" = "mutate: Smaller.IsTheSmallerOne fails without any change; make the tests pass first" ]
}

@test "wrong arguments are one sentence and status 2" {
    for wrong in "--sample 0" "--least none" "--jobs -1" "--only 1 --list" --frobnicate; do
        # shellcheck disable=SC2086 # words
        run -2 --separate-stderr mutate $wrong
        [[ $stderr == "mutate: "*"; see tools/mutate --help" ]]
        [ "${#stderr_lines[@]}" = 1 ]
    done
    run -2 --separate-stderr tools/mutate src/none.cpp
    [[ $stderr == "mutate: 'src/none.cpp' is no C++ file of this tree"* ]]
    run -2 --separate-stderr tools/mutate --only 3 src/smaller.cpp
    [ "$stderr" = "mutate: there is no mutant 3; there are 2" ]
}
