// SPDX-License-Identifier: MIT
//
// The command `dirtyring`: finds the subcommand, and turns whatever goes wrong into one sentence on
// standard error and an exit status. The only place where exceptions are caught; they come from
// CLI11 and the standard library.
#include <fmt/format.h>
#include <unistd.h>

#include <exception>
#include <string_view>

#include "command.hpp"
#include "manual.hpp"
#include "output_file.hpp"

namespace dirtyring::cli {

namespace {

constexpr int failure = 1;
constexpr int wrong_usage = 2;

int complain(std::string_view sentence, int status) {
    // If standard error cannot be written, the status still tells.
    [[maybe_unused]] const Result<void> told =
        write_all(STDERR_FILENO, fmt::format("dirtyring: {}\n", sentence), "standard error");
    return status;
}

int finish(const Result<void>& done) {
    return done ? 0 : complain(done.error().message(), failure);
}

int print(const std::string& text) {
    return finish(write_all(STDOUT_FILENO, text, "standard output"));
}

Manual command_manual() {
    return {
        .page = "dirtyring",
        .summary = "which pages of a running KVM guest have changed",
        .description =
            {"Shows which pages of its memory a KVM guest writes, through the kernel's dirty ring: "
             "live, as a summary, as a picture. Each command has its own --help and manual page."},
        .sections = {},
        .examples = {{"dirtyring probe", "says what this host's KVM offers."},
                     {"dirtyring run --seconds 10 --heatmap heat.svg",
                      "runs a guest and draws where it writes."},
                     {"dirtyring reset writer", "resets a guest after each round of its work."}},
        .exit_status = {{"0", "All went well."},
                        {"1", "Something failed; a sentence on standard error says what."},
                        {"2", "The command line is wrong."}},
        .see_also = {"dirtyring-probe(1)", "dirtyring-run(1)", "dirtyring-reset(1)",
                     "dirtyring-report(1)", "dirtyring-bench(1)"},
    };
}

/// What CLI11 has against the command line, as a sentence with a hint.
int complain_of_usage(const CLI::App& app, const CLI::ParseError& error) {
    const CLI::App* chosen = &app;
    std::string command = app.get_name();
    while (!chosen->get_subcommands().empty()) {
        chosen = chosen->get_subcommands().front();
        command += " " + chosen->get_name();
    }
    std::string sentence = error.what();
    const std::vector<std::string> unknown = chosen->remaining();
    if (chosen->get_require_subcommand_min() > 0 && !unknown.empty()) {
        // CLI11 would say that a subcommand is missing.
        sentence = fmt::format("there is no command or option \"{}\"", unknown.front());
    }
    return complain(fmt::format("{} (see {} --help)", sentence, command), wrong_usage);
}

int run_command(int argc, char** argv) {
    CLI::App app;
    app.name("dirtyring");
    set_manual(app, command_manual());
    app.set_version_flag("--version", "dirtyring " DIRTYRING_VERSION,
                         "Says its version and leaves.");
    const std::vector<Command> commands = {add_probe(app), add_run(app), add_reset(app),
                                           add_report(app), add_bench(app)};
    app.require_subcommand(1);
    try {
        app.parse(argc, argv);
        for (const Command& command : commands) {
            if (command.app->parsed()) {
                return finish(command.run());
            }
        }
        return wrong_usage;  // not reached: CLI11 requires a subcommand
    } catch (const CLI::CallForHelp&) {
        return print(app.help());
    } catch (const CLI::CallForAllHelp&) {
        return print(app.help("", CLI::AppFormatMode::All));
    } catch (const CLI::CallForVersion& version) {
        return print(std::string(version.what()) + "\n");
    } catch (const CLI::ParseError& error) {
        return complain_of_usage(app, error);
    }
}

}  // namespace

void require_different(const std::vector<std::pair<std::string, std::string>>& files) {
    for (std::size_t i = 0; i < files.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (!files[i].second.empty() && files[i].second == files[j].second) {
                throw CLI::ValidationError(
                    fmt::format("{} and {} are both {}; give each a file of "
                                "its own",
                                files[j].first, files[i].first, files[i].second));
            }
        }
    }
}

}  // namespace dirtyring::cli

int main(int argc, char** argv) {
    try {
        return dirtyring::cli::run_command(argc, argv);
    } catch (const std::exception& error) {
        return dirtyring::cli::complain(error.what(), dirtyring::cli::failure);
    }
}
