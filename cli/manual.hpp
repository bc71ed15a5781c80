// SPDX-License-Identifier: MIT
//
// What --help and the manual page of a command say. Both are made from the same two things: this
// text, and the options as CLI11 has them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <utility>
#include <vector>

namespace dirtyring::cli {

/// A term and what is said about it.
using Entry = std::pair<std::string, std::string>;

struct ManualSection {
    std::string title;
    std::vector<std::string> paragraphs;
    std::vector<Entry> entries;  ///< after the paragraphs
};

struct Manual {
    std::string page;     ///< "dirtyring-run"
    std::string summary;  ///< half a line, as after the dash of a manual page's NAME
    std::vector<std::string> description;  ///< paragraphs
    std::vector<ManualSection> sections;   ///< after the options, in the manual page only
    std::vector<Entry> examples;           ///< a command line, what it does
    std::vector<Entry> exit_status;        ///< a number, when
    std::vector<std::string> see_also;     ///< "dirtyring-report(1)"
};

/// Gives `app` its --help, and --help-man, which is not listed and writes the manual page as roff.
void set_manual(CLI::App& app, Manual manual);

}  // namespace dirtyring::cli
