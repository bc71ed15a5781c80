// SPDX-License-Identifier: MIT
#include "manual.hpp"

#include <fmt/format.h>

#include <memory>
#include <string_view>

namespace dirtyring::cli {

namespace {

constexpr std::size_t width = 80;

std::vector<const CLI::Option*> positionals(const CLI::App& app) {
    return app.get_options([](const CLI::Option* option) { return option->get_positional(); });
}

std::vector<const CLI::Option*> listed_options(const CLI::App& app) {
    return app.get_options([](const CLI::Option* option) {
        return option->nonpositional() && !option->get_group().empty();
    });
}

std::string argument_of(const CLI::Option& option) {
    return option.get_type_size() == 0 ? std::string() : option.get_type_name();
}

bool repeats(const CLI::Option& option) {
    return option.get_expected_max() > 1;
}

// --help -----------------------------------------------------------------------------------------

/// The text in lines of at most `width`, all but the first indented; it begins in column `column`.
std::string wrapped(std::string_view text, std::size_t column, std::size_t indent) {
    std::string out;
    while (!text.empty()) {
        const std::string_view word = text.substr(0, text.find(' '));
        text.remove_prefix(std::min(text.size(), word.size() + 1));
        if (!out.empty() && column + 1 + word.size() > width) {
            out += "\n" + std::string(indent, ' ');
            column = indent;
        } else if (!out.empty()) {
            out += ' ';
            ++column;
        }
        out += word;
        column += word.size();
    }
    return out + "\n";
}

std::string listed(const std::vector<Entry>& entries) {
    constexpr std::size_t indent = 24;
    std::string out;
    for (const auto& [term, text] : entries) {
        out += term.size() + 4 <= indent ? fmt::format("  {:<{}}", term, indent - 2)
                                         : fmt::format("  {}\n{:{}}", term, "", indent);
        out += wrapped(text, indent, indent);
    }
    return out;
}

/// "-h,--help" as "-h, --help".
std::string spaced(std::string names) {
    const std::size_t comma = names.find(',');
    return comma == std::string::npos ? names : names.insert(comma + 1, " ");
}

std::vector<Entry> entries_of(const std::vector<const CLI::Option*>& options) {
    std::vector<Entry> entries;
    for (const CLI::Option* option : options) {
        const std::string argument = argument_of(*option);
        const std::string name =
            option->get_positional()
                ? option->get_name(true, false)
                : spaced(option->get_name(false, true)) + (argument.empty() ? "" : " " + argument);
        entries.emplace_back(name, option->get_description());
    }
    return entries;
}

std::vector<Entry> subcommands_of(const CLI::App& app) {
    std::vector<Entry> entries;
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
        entries.emplace_back(sub->get_name(), sub->get_description());
    }
    return entries;
}

std::string help(const CLI::App& app, const std::string& name, const Manual& manual) {
    std::string usage = "usage: " + name + " [OPTION]...";
    for (const CLI::Option* option : positionals(app)) {
        const std::string argument = option->get_name(true, false);
        usage += option->get_required() ? " " + argument : " [" + argument + "]";
    }
    const std::vector<Entry> subcommands = subcommands_of(app);
    if (!subcommands.empty()) {
        usage += " COMMAND ...";
    }
    std::string out = usage + "\n\n";
    for (const std::string& paragraph : manual.description) {
        out += wrapped(paragraph, 0, 0) + "\n";
    }
    if (!subcommands.empty()) {
        out += "Commands:\n" + listed(subcommands) + "\n";
    }
    if (!positionals(app).empty()) {
        out += "Arguments:\n" + listed(entries_of(positionals(app))) + "\n";
    }
    out += "Options:\n" + listed(entries_of(listed_options(app)));
    if (!manual.examples.empty()) {
        out += "\nExamples:\n";
        for (const auto& [command, meaning] : manual.examples) {
            out += fmt::format("  {}\n      {}", command, wrapped(meaning, 6, 6));
        }
    }
    out += "\nExit status:\n" + listed(manual.exit_status);
    out += fmt::format("\nMore is in the manual page {}(1).\n", manual.page);
    return out;
}

// --help-man -------------------------------------------------------------------------------------

/// Prose for roff: hyphens of options are kept from being typeset as hyphens, and nothing of it is
/// taken for a request.
std::string roff(std::string_view text) {
    std::string out;
    bool in_option = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        const bool word_start = i == 0 || text[i - 1] == ' ' || text[i - 1] == '(';
        if (word_start) {
            in_option = c == '-';
        }
        if (c == '\\') {
            out += "\\e";
        } else if (c == '-' && in_option) {
            out += "\\-";
        } else if (i == 0 && (c == '.' || c == '\'')) {
            out += "\\&";
            out += c;
        } else {
            out += c;
        }
    }
    return out;
}

/// What is to be typed as it stands.
std::string literal(std::string_view text) {
    std::string out;
    for (const char c : text) {
        out += c == '-' ? "\\-" : c == '\\' ? "\\e" : std::string(1, c);
    }
    return out;
}

std::string signature(const CLI::Option& option) {
    if (option.get_positional()) {
        return fmt::format("\\fI{}\\fR", literal(option.get_name(true, false)));
    }
    std::string out;
    for (const std::string& name : option.get_snames()) {
        out += fmt::format("{}\\fB\\-{}\\fR", out.empty() ? "" : ", ", literal(name));
    }
    for (const std::string& name : option.get_lnames()) {
        out += fmt::format("{}\\fB\\-\\-{}\\fR", out.empty() ? "" : ", ", literal(name));
    }
    const std::string argument = argument_of(option);
    return argument.empty() ? out : fmt::format("{} \\fI{}\\fR", out, literal(argument));
}

void put_section(std::string& out, std::string_view title) {
    fmt::format_to(std::back_inserter(out), ".SH {}\n", title);
}

void put_entries(std::string& out, const std::vector<Entry>& entries) {
    for (const auto& [term, text] : entries) {
        fmt::format_to(std::back_inserter(out), ".TP\n.B {}\n{}\n", literal(term), roff(text));
    }
}

void put_paragraphs(std::string& out, const std::vector<std::string>& paragraphs) {
    std::string_view between;
    for (const std::string& paragraph : paragraphs) {
        fmt::format_to(std::back_inserter(out), "{}{}\n", between, roff(paragraph));
        between = ".PP\n";
    }
}

void put_synopsis(std::string& out, const CLI::App& app, const std::string& name) {
    put_section(out, "SYNOPSIS");
    fmt::format_to(std::back_inserter(out), ".nh\n.ad l\n.B {}\n", literal(name));
    for (const CLI::Option* option : listed_options(app)) {
        fmt::format_to(std::back_inserter(out), "[{}]{}\n", signature(*option),
                       repeats(*option) ? "..." : "");
    }
    for (const CLI::Option* option : positionals(app)) {
        out += option->get_required() ? signature(*option) : "[" + signature(*option) + "]";
        out += '\n';
    }
    if (!subcommands_of(app).empty()) {
        out += "\\fICOMMAND\\fR ...\n";
    }
    out += ".ad\n.hy\n";
}

std::string page(const CLI::App& app, const std::string& name, const Manual& manual) {
    std::string title = literal(manual.page);
    for (char& c : title) {
        c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    }
    std::string out = fmt::format(".TH \"{}\" 1 \"\" \"dirtyring {}\" \"User Commands\"\n", title,
                                  DIRTYRING_VERSION);
    put_section(out, "NAME");
    fmt::format_to(std::back_inserter(out), "{} \\- {}\n", literal(manual.page),
                   roff(manual.summary));
    put_synopsis(out, app, name);
    put_section(out, "DESCRIPTION");
    put_paragraphs(out, manual.description);
    const std::vector<Entry> subcommands = subcommands_of(app);
    if (!subcommands.empty()) {
        put_section(out, "COMMANDS");
        put_entries(out, subcommands);
    }
    put_section(out, "OPTIONS");
    for (const auto& options : {positionals(app), listed_options(app)}) {
        for (const CLI::Option* option : options) {
            fmt::format_to(std::back_inserter(out), ".TP\n{}\n{}\n", signature(*option),
                           roff(option->get_description()));
        }
    }
    for (const ManualSection& section : manual.sections) {
        put_section(out, section.title);
        put_paragraphs(out, section.paragraphs);
        put_entries(out, section.entries);
    }
    put_section(out, "EXIT STATUS");
    put_entries(out, manual.exit_status);
    if (!manual.examples.empty()) {
        put_section(out, "EXAMPLES");
        put_entries(out, manual.examples);
    }
    put_section(out, "SEE ALSO");
    std::string between;
    for (const std::string& other : manual.see_also) {
        out += between + "\\fB" + literal(other) + "\\fR";
        between = ",\n";
    }
    return out + "\n";
}

class Formatter final : public CLI::FormatterBase {
  public:
    explicit Formatter(Manual manual) : manual_(std::move(manual)) {}

    std::string make_help(const CLI::App* app, std::string name,
                          CLI::AppFormatMode mode) const override {
        return mode == CLI::AppFormatMode::All ? page(*app, name, manual_)
                                               : help(*app, name, manual_);
    }

  private:
    Manual manual_;
};

}  // namespace

void set_manual(CLI::App& app, Manual manual) {
    app.description(manual.summary);
    app.set_help_flag("-h,--help", "Says what is here and leaves.");
    app.set_help_all_flag("--help-man", "Writes the manual page.")->group("");
    app.formatter(std::make_shared<Formatter>(std::move(manual)));
}

}  // namespace dirtyring::cli
