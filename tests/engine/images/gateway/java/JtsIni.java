package standin;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** IBC's way with jts.ini: a few values are enforced, and a file that differs is written anew. */
final class JtsIni {
    private JtsIni() {}

    static void enforce(Path path, String trusted) throws IOException {
        Map<String, Map<String, String>> wanted = new LinkedHashMap<>();
        wanted.put("IBGateway", new LinkedHashMap<>(Map.of(
            "ApiOnly", "true", "TrustedIPs", trusted.isEmpty() ? "127.0.0.1" : "127.0.0.1," + trusted)));
        wanted.put("Logon", new LinkedHashMap<>(Map.of("Locale", "en", "displayedproxymsg", "1", "UseSSL", "true")));
        List<String> before = Files.exists(path) ? Files.readAllLines(path) : List.of("[IBGateway]", "[Logon]");
        List<String> after = merge(before, wanted);
        if (before.equals(after)) {
            return;
        }
        try {
            Files.deleteIfExists(path);
            Files.write(path, after);
        } catch (IOException failure) {
            Gateway.exit(Gateway.SETTINGS_NOT_WRITABLE, "problem writing to jts.ini: " + failure.getMessage());
        }
    }

    private static List<String> merge(List<String> lines, Map<String, Map<String, String>> wanted) {
        List<String> result = new ArrayList<>();
        Map<String, String> section = new LinkedHashMap<>();
        for (String line : lines) {
            if (line.startsWith("[")) {
                section.forEach((key, value) -> result.add(key + "=" + value));
                section = wanted.getOrDefault(line.replaceAll("[\\[\\]]", ""), new LinkedHashMap<>());
                result.add(line);
                continue;
            }
            String key = line.split("=", 2)[0];
            String value = section.remove(key);
            result.add(value == null ? line : key + "=" + value);
        }
        section.forEach((key, value) -> result.add(key + "=" + value));
        return result;
    }
}
