// SPDX-License-Identifier: MIT
//
// dirtyring report: the summary, the picture and the JSON file again, from a trace.
#include <unistd.h>

#include <memory>

#include "command.hpp"
#include "manual.hpp"
#include "output_file.hpp"
#include "recorder.hpp"
#include "trace_reader.hpp"

namespace dirtyring::cli {

namespace {

struct ReportOptions {
    std::string trace;
    RecorderPaths paths;
};

Result<void> report(const ReportOptions& options) {
    require_different({{"TRACE", options.trace},
                       {"--heatmap", options.paths.heatmap},
                       {"--json", options.paths.json}});
    Result<Recorder> recorder = Recorder::open(options.paths);
    if (!recorder) {
        return fail(std::move(recorder.error()));
    }
    Result<TraceReader> trace = TraceReader::open(options.trace);
    if (!trace) {
        return fail(std::move(trace.error()));
    }
    Result<void> done = recorder->begin(trace->header());
    Interval interval;
    for (bool more = true; done && more;) {
        const Result<bool> read = trace->next(interval);
        more = read.value_or(false);
        done = !read  ? Result<void>(fail(read.error()))
               : more ? recorder->add(interval)
                      : Result<void>();
    }
    if (!done) {
        return done;
    }
    return write_all(STDOUT_FILENO, recorder->summary(trace->outcome(), nullptr), "standard output")
        .and_then([&] { return recorder->finish(trace->outcome(), nullptr); });
}

Manual report_manual() {
    return {
        .page = "dirtyring-report",
        .summary = "show a traced run again",
        .description = {"Reads a trace that dirtyring run --trace has written and prints the "
                        "summary of that run, as the run itself did, but for its end: what only "
                        "a live run tells is not in a trace. With --heatmap and --json it writes "
                        "the files that the run would have written, the JSON file without "
                        "\"live\"."},
        .sections = {},
        .examples = {{"dirtyring report run.trace --heatmap run.svg",
                      "prints the summary and draws the picture."}},
        .exit_status = {{"0", "The trace is whole and all was written."},
                        {"1",
                         "The trace cannot be read, is damaged or was cut short, or a file "
                         "cannot be written. None is left half-written."},
                        {"2", "The command line is wrong."}},
        .see_also = {"dirtyring(1)", "dirtyring-run(1)"},
    };
}

}  // namespace

Command add_report(CLI::App& parent) {
    CLI::App* const app = parent.add_subcommand("report");
    set_manual(*app, report_manual());
    const auto options = std::make_shared<ReportOptions>();
    app->add_option("TRACE", options->trace, "The trace.")->required();
    app->add_option("--heatmap", options->paths.heatmap,
                    "Draws address against time, coloured by pages dirtied a second, as SVG.")
        ->type_name("FILE.svg");
    app->add_option("--json", options->paths.json,
                    "Writes the summary and all intervals as JSON; see dirtyring-run(1).")
        ->type_name("FILE");
    return {app, [options] { return report(*options); }};
}

}  // namespace dirtyring::cli
