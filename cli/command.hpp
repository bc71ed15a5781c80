// SPDX-License-Identifier: MIT
//
// The subcommands. Each is one file, with its options, its manual and what it does; main.cpp lists
// them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "dirtyring/error.hpp"
#include "parse.hpp"

namespace dirtyring::cli {

struct Command {
    CLI::App* app;
    /// After the command line has been parsed. What is wrong with it is thrown as
    /// CLI::ParseError; all other errors are values.
    std::function<Result<void>()> run;
};

[[nodiscard]] Command add_probe(CLI::App& parent);
[[nodiscard]] Command add_run(CLI::App& parent);
[[nodiscard]] Command add_reset(CLI::App& parent);
[[nodiscard]] Command add_report(CLI::App& parent);
[[nodiscard]] Command add_bench(CLI::App& parent);

/// Throws CLI::ValidationError where two of the files, each an option's name and its value, have
/// the same name.
void require_different(const std::vector<std::pair<std::string, std::string>>& files);

/// An option whose text `store` takes: void(Result) of a text; its error is one of usage.
template <typename Store>
CLI::Option* add_parsed(CLI::App& app, const std::string& name, const std::string& argument,
                        const std::string& about, Store store) {
    return app
        .add_option_function<std::string>(
            name,
            [name, store](const std::string& text) {
                if (Result<void> stored = store(text); !stored) {
                    throw CLI::ValidationError(name, stored.error().message());
                }
            },
            about)
        ->type_name(argument);
}

/// An option whose whole number from `least` to `most` goes into `target`.
template <typename Number>
CLI::Option* add_count(CLI::App& app, const std::string& name, const std::string& argument,
                       const std::string& about, Number& target, std::uint64_t least,
                       std::uint64_t most) {
    return add_parsed(app, name, argument, about, [&target, least, most](const std::string& text) {
        return parse_count(text, least, most).map([&target](std::uint64_t value) {
            target = Number(value);
        });
    });
}

}  // namespace dirtyring::cli
