// SPDX-License-Identifier: MIT
//
// dirtyring probe: what this host's KVM offers for tracking dirty pages.
#include "dirtyring/probe.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <memory>

#include "command.hpp"
#include "format.hpp"
#include "json_report.hpp"
#include "manual.hpp"
#include "output_file.hpp"

namespace dirtyring::cli {

namespace {

std::string yes_no(bool yes) {
    return yes ? "yes" : "no";
}

std::string page_log(const HostFacilities& host) {
    return host.hardware_page_log ? yes_no(*host.hardware_page_log) : "unknown";
}

std::string text_of(const HostFacilities& host) {
    std::string out;
    const auto put = [&out](std::string_view name, std::string_view value) {
        out += fmt::format("{:<26}{}\n", name, value);
    };
    const VmFacilities& vm = host.vm;
    put("kernel", host.kernel_release);
    put("KVM module", host.kvm_module.empty() ? "unknown" : host.kvm_module);
    put("KVM API version", std::to_string(host.api_version));
    put("hardware page log (PML)", page_log(host));
    put("vCPUs", fmt::format("{} at most, {} recommended", vm.max_vcpus, vm.recommended_vcpus));
    put("memory slots", fmt::format("{} in each of {}", vm.memory_slots,
                                    counted(vm.address_spaces, "address space")));
    out += "\nWays of tracking:\n";
    for (const TrackingSupport& support : host.tracking) {
        std::string about = support.usable ? "yes" : "no: " + support.why_not;
        if (support.way == Tracking::ring && support.usable) {
            about += fmt::format(", {} to {} entries{}", host.least_ring, vm.largest_ring(),
                                 vm.ring_acq_rel_bytes != 0 ? ", ACQ_REL" : "");
        }
        put(fmt::format("  {}", name(support.way)), about);
    }
    out += host.recommended
               ? fmt::format("\nRecommended: {}, because {}.\n", name(*host.recommended),
                             host.recommended_why)
               : fmt::format("\nRecommended: nothing, for {}.\n", host.recommended_why);
    return out;
}

using Json = nlohmann::ordered_json;

Json json_of(const HostFacilities& host) {
    const VmFacilities& vm = host.vm;
    Json tracking = Json::object();
    for (const TrackingSupport& support : host.tracking) {
        Json& way = tracking[name(support.way)];
        way["usable"] = support.usable;
        if (!support.usable) {
            way["why_not"] = support.why_not;
        }
    }
    Json json{
        {"format", "dirtyring probe"},
        {"version", 1},
        {"kernel_release", host.kernel_release},
        {"kvm_module", nullptr},
        {"api_version", host.api_version},
        {"hardware_page_log", nullptr},
        {"least_ring_entries", host.least_ring},
        {"largest_ring_entries", vm.largest_ring()},
        {"tracking", tracking},
        {"recommended", nullptr},
        {"recommended_why", host.recommended_why},
        {"vm",
         {{"ring_bytes", vm.ring_bytes},
          {"ring_acq_rel_bytes", vm.ring_acq_rel_bytes},
          {"ring_with_bitmap", vm.ring_with_bitmap},
          {"manual_protect", vm.manual_protect},
          {"memory_slots", vm.memory_slots},
          {"address_spaces", vm.address_spaces},
          {"recommended_vcpus", vm.recommended_vcpus},
          {"max_vcpus", vm.max_vcpus},
          {"max_vcpu_id", vm.max_vcpu_id},
          {"sync_registers", vm.sync_registers},
          {"immediate_exit", vm.immediate_exit},
          {"xsave_bytes", vm.xsave_bytes},
          {"nested_state_bytes", vm.nested_state_bytes},
          {"binary_stats", vm.binary_stats},
          {"user_memory2", vm.user_memory2}}},
    };
    if (!host.kvm_module.empty()) {
        json["kvm_module"] = host.kvm_module;
    }
    if (host.hardware_page_log) {
        json["hardware_page_log"] = *host.hardware_page_log;
    }
    if (host.recommended) {
        json["recommended"] = name(*host.recommended);
    }
    return json;
}

Result<void> probe_host(bool as_json) {
    const Result<kvm::System> system = kvm::System::open();
    if (!system) {
        return fail(system.error());
    }
    const Result<HostFacilities> host = probe(*system);
    if (!host) {
        return fail(host.error());
    }
    return write_all(STDOUT_FILENO, as_json ? dump(json_of(*host)) : text_of(*host),
                     "standard output");
}

Manual probe_manual() {
    return {
        .page = "dirtyring-probe",
        .summary = "say what this host's KVM offers for tracking dirty pages",
        .description =
            {"Asks /dev/kvm what it offers, tries each way of tracking dirty pages on virtual "
             "machines made for the purpose, and says which to take and why. For a way that "
             "cannot be used it says why not."},
        .sections =
            {{.title = "JSON",
              .paragraphs = {"With --json the output is one object. What the host does not say is "
                             "null."},
              .entries =
                  {{"format, version", "\"dirtyring probe\" and 1."},
                   {"kernel_release, kvm_module, api_version, hardware_page_log",
                    "The host; hardware_page_log is true where the CPU logs written pages itself "
                    "(Intel PML)."},
                   {"least_ring_entries, largest_ring_entries",
                    "The sizes of ring that can be had; 0 where there are none."},
                   {"tracking",
                    "\"ring\", \"ring with bitmap\", \"bitmap\" and \"manual bitmap\", each with "
                    "usable and, if it is not, why_not."},
                   {"recommended, recommended_why", "The way to take, and the reason."},
                   {"vm", "What a virtual machine answers to KVM_CHECK_EXTENSION."}}}},
        .examples = {{"dirtyring probe", "says what there is."},
                     {"dirtyring probe --json | jq .recommended", "gives one figure of it."}},
        .exit_status = {{"0", "The host has been asked, whatever it has answered."},
                        {"1",
                         "KVM cannot be used: there is no /dev/kvm, or no permission. What to "
                         "do about it is said."},
                        {"2", "The command line is wrong."}},
        .see_also = {"dirtyring(1)", "dirtyring-run(1)"},
    };
}

}  // namespace

Command add_probe(CLI::App& parent) {
    CLI::App* const app = parent.add_subcommand("probe");
    set_manual(*app, probe_manual());
    const auto as_json = std::make_shared<bool>(false);
    app->add_flag("--json", *as_json, "Writes JSON.");
    return {app, [as_json] { return probe_host(*as_json); }};
}

}  // namespace dirtyring::cli
