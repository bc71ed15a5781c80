// SPDX-License-Identifier: MIT
#include "guest_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "machine/check.hpp"
#include "parse.hpp"

namespace dirtyring::cli {

namespace {

Result<void> store_ring(GuestOptions& options, const std::string& text) {
    // The most, and on some hosts the least, is the kernel's to say.
    const Result<std::uint64_t> entries = parse_count(text, 256, std::uint64_t{1} << 30);
    if (!entries) {
        return fail(entries.error());
    }
    if (!std::has_single_bit(*entries)) {
        return fail(
            {0, fmt::format("\"{}\"", text), "it is not a power of two",
             fmt::format("give {} or {}", std::bit_floor(*entries), std::bit_ceil(*entries))});
    }
    options.ring_entries = static_cast<std::uint32_t>(*entries);
    return {};
}

Result<void> store_track(GuestOptions& options, const std::string& text) {
    if (text == "auto") {
        options.track.reset();
        return {};
    }
    for (const Track track : {Track::ring, Track::bitmap, Track::manual}) {
        if (text == name(track)) {
            options.track = track;
            return {};
        }
    }
    return fail({0, fmt::format("\"{}\"", text), "there is no such way of tracking",
                 "give ring, bitmap, manual or auto"});
}

void store_params(GuestOptions& options, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
        const std::size_t equals = text.find('=');
        if (equals == 0 || equals == std::string::npos) {
            throw CLI::ValidationError(
                "--param",
                fmt::format("\"{}\": it is not a name and a value; write NAME=VALUE", text));
        }
        const std::string name = text.substr(0, equals);
        const auto same = [&](const auto& param) { return param.first == name; };
        if (std::ranges::any_of(options.machine.params, same)) {
            throw CLI::ValidationError("--param",
                                       fmt::format("\"{}\" is given twice; give it once", name));
        }
        options.machine.params.emplace_back(name, text.substr(equals + 1));
    }
}

std::string guest_names() {
    std::string names;
    for (const BuiltinGuest& guest : builtin_guests()) {
        names += fmt::format("{}{} ({})", names.empty() ? "" : ", ", guest.name, guest.about);
    }
    return names;
}

}  // namespace

void add_guest_options(CLI::App& app, GuestOptions& options) {
    GuestOptions& o = options;
    app.add_option("GUEST", o.guest,
                   fmt::format("The guest: the path of its program, or one of {}. The default is "
                               "{}.",
                               guest_names(), o.guest));
    add_parsed(app, "--memory", "SIZE",
               "Guest memory, 8M to 64G in steps of 2M; the default is 256M. It costs the host "
               "what the guest touches.",
               [&o](const std::string& text) {
                   return parse_size(text, machine::min_memory, machine::max_memory)
                       .map([&o](std::uint64_t value) { o.machine.memory = value; });
               });
    add_parsed(app, "--ring", "ENTRIES",
               "Entries of each vCPU's dirty ring, a power of two from 256 (1024 on some hosts) to "
               "what dirtyring probe says; the default is 65536.",
               [&o](const std::string& text) { return store_ring(o, text); });
    app.add_option_function<std::vector<std::string>>(
           "--param", [&o](const std::vector<std::string>& texts) { store_params(o, texts); },
           "A parameter for the guest, which says what it knows when it is given another. Can be "
           "given 16 times.")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    add_parsed(app, "--track", "WAY",
               "How to track: ring, bitmap, manual (a bitmap with manual protection), or auto, "
               "which takes what dirtyring probe recommends and says why. The default is auto.",
               [&o](const std::string& text) { return store_track(o, text); });
}

void check_guest_options(const GuestOptions& options) {
    if (options.ring_entries && options.track && *options.track != Track::ring) {
        throw CLI::ValidationError(
            "--ring", fmt::format("it says nothing with --track {}; leave one of them out",
                                  name(*options.track)));
    }
    if (const Result<void> checked = machine::check(options.machine); !checked) {
        throw CLI::ValidationError(checked.error().message());
    }
}

ManualSection guests_section() {
    ManualSection section{
        .title = "GUESTS",
        .paragraphs = {"A guest is a static ELF64 executable for x86-64 without an operating "
                       "system, or a flat binary; guests/abi.hpp in the source says what it finds "
                       "and how it ends. Where there is no file of that name, these are built in:"},
        .entries = {}};
    for (const BuiltinGuest& guest : builtin_guests()) {
        section.entries.emplace_back(guest.name, guest.about);
    }
    return section;
}

}  // namespace dirtyring::cli
