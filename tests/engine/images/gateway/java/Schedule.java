package standin;

import java.io.IOException;
import java.time.DayOfWeek;
import java.time.Duration;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.format.DateTimeFormatter;
import java.time.temporal.TemporalAdjusters;
import java.util.Locale;
import java.util.Timer;
import java.util.TimerTask;

/** Auto-restart, auto-logoff and the Sunday cold restart, read as strictly as there. */
final class Schedule {
    private static final DateTimeFormatter TWELVE = DateTimeFormatter.ofPattern("hh:mm a", Locale.US);

    private final Gateway gateway;
    private LocalTime coldRestart;

    Schedule(Gateway gateway) {
        this.gateway = gateway;
        String cold = gateway.setting("ColdRestartTime");
        if (!cold.isEmpty()) {
            if (!cold.matches("([01]?[0-9]|2[0-3]):[0-5][0-9].*")) {
                Gateway.exit(Gateway.BAD_COLD_RESTART_TIME, "Invalid ColdRestartTime: " + cold);
            }
            String[] parts = cold.split("[: ]");
            coldRestart = LocalTime.of(Integer.parseInt(parts[0]), Integer.parseInt(parts[1]));
        }
    }

    void start() {
        Timer timer = new Timer(true);
        LocalDateTime now = LocalDateTime.now();
        if (coldRestart != null) {
            LocalDateTime sunday = now.with(TemporalAdjusters.nextOrSame(DayOfWeek.SUNDAY)).with(coldRestart);
            sunday = sunday.isAfter(now) ? sunday : sunday.plusWeeks(1);
            Gateway.log("Gateway will be cold restarted at " + sunday);
            at(timer, sunday, () -> Gateway.exit(Gateway.COLD_RESTART, "Cold restart in progress"));
        }
        daily(timer, "AutoRestartTime", () -> {
            try {
                gateway.restart();
            } catch (IOException failure) {
                Gateway.log("autorestart file cannot be written: " + failure.getMessage());
            }
        });
        daily(timer, "AutoLogoffTime", () -> Gateway.exit(0, "Auto logoff"));
    }

    private void daily(Timer timer, String name, Runnable action) {
        String text = gateway.setting(name);
        if (text.isEmpty()) {
            return;
        }
        if (!text.matches("(0[1-9]|1[0-2]):[0-5][0-9] (AM|PM)")) {
            Gateway.log(name + "=" + text + " is not valid: format is hh:mm AM/PM");
            return;
        }
        LocalDateTime now = LocalDateTime.now();
        LocalDateTime next = now.with(LocalTime.parse(text, TWELVE));
        at(timer, next.isAfter(now) ? next : next.plusDays(1), action);
    }

    private static void at(Timer timer, LocalDateTime when, Runnable action) {
        timer.schedule(new TimerTask() {
            @Override
            public void run() {
                action.run();
            }
        }, Duration.between(LocalDateTime.now(), when).toMillis());
    }
}
