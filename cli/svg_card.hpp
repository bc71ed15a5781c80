// SPDX-License-Identifier: MIT
//
// What the pictures have in common: a card of its own colours, the same on a light and on a dark
// page, and the text and the shapes that are put onto it one by one.
#pragma once

#include <fmt/format.h>

#include <iterator>
#include <string>
#include <string_view>
#include <utility>

namespace dirtyring::cli {

/// For a picture to be derived from. One thread.
class SvgCard {
  protected:
    static constexpr const char* background = "#0e1016";
    static constexpr const char* panel = "#171a23";
    static constexpr const char* line = "#2c313f";
    static constexpr const char* strong = "#eceef4";
    static constexpr const char* muted = "#a4abbd";
    static constexpr const char* orange = "#f0a35e";
    static constexpr const char* blue = "#4fc3f7";  // no colour of the heat

    /// Of that size in pixels. `title` is for who cannot see it.
    void begin(int width, int height, std::string_view title) {
        put("<svg xmlns='http://www.w3.org/2000/svg' width='{0}' height='{1}' "
            "viewBox='0 0 {0} {1}' font-family='system-ui, -apple-system, Segoe UI, Roboto, "
            "Helvetica Neue, DejaVu Sans, sans-serif' font-size='13' fill='{2}'>",
            width, height, muted);
        put("<title>{}</title>", title);
        put("<style>.title{{font-size:24px;font-weight:600;fill:{0}}}.about{{font-size:14px}}"
            ".axis{{font-size:14px;fill:{0}}}.mid{{text-anchor:middle}}.end{{text-anchor:end}}"
            ".tick,.grid{{stroke:{1};fill:none}}.grid{{stroke:{2}}}"
            ".curve{{stroke-width:2;fill:none}}</style>",
            strong, muted, line);
        put("<rect width='{}' height='{}' rx='8' fill='{}'/>", width, height, background);
    }
    template <typename... Parts>
    void put(fmt::format_string<Parts...> format, Parts&&... parts) {
        fmt::format_to(std::back_inserter(out_), format, std::forward<Parts>(parts)...);
        out_ += '\n';
    }
    /// `look`: attributes of the element.
    void text(double x, double y, const char* look, std::string_view what) {
        put("<text x='{:.1f}' y='{:.1f}' {}>{}</text>", x, y, look, what);
    }
    /// The whole document.
    [[nodiscard]] std::string finish() {
        put("</svg>");
        return std::move(out_);
    }

  private:
    std::string out_;
};

}  // namespace dirtyring::cli
