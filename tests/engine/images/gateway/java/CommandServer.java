package standin;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;

/** IBC's command server: one command a line, answered by a line; off unless a port is set. */
final class CommandServer {
    private final Gateway gateway;

    CommandServer(Gateway gateway) {
        this.gateway = gateway;
    }

    void start() throws IOException {
        String port = gateway.setting("CommandServerPort");
        if (port.isEmpty() || port.equals("0")) {
            Gateway.log("CommandServer is not started because the port is not configured");
            return;
        }
        String address = gateway.setting("BindAddress");
        ServerSocket server = new ServerSocket(
            Integer.parseInt(port), 5, address.isEmpty() ? null : InetAddress.getByName(address));
        Gateway.log("CommandServer listening on address: " + server.getLocalSocketAddress());
        Thread thread = new Thread(() -> serve(server));
        thread.setDaemon(true);
        thread.start();
    }

    private void serve(ServerSocket server) {
        while (true) {
            try (Socket client = server.accept();
                    BufferedReader lines = new BufferedReader(new InputStreamReader(client.getInputStream()));
                    PrintWriter answer = new PrintWriter(client.getOutputStream(), true)) {
                String line;
                while ((line = lines.readLine()) != null && answer(line.trim(), answer)) {
                    continue;
                }
            } catch (IOException failure) {
                Gateway.log("CommandServer: " + failure.getMessage());
            }
        }
    }

    private boolean answer(String command, PrintWriter answer) throws IOException {
        Gateway.log("CommandServer received command: " + command);
        switch (command.toUpperCase(java.util.Locale.ROOT)) {
            case "EXIT" -> {
                answer.println("OK Goodbye");
                return false;
            }
            case "STOP" -> {
                answer.println("OK Shutting down");
                Gateway.exit(0, "Gateway finished");
            }
            case "RESTART" -> {
                answer.println("OK Restarting");
                gateway.restart();
            }
            case "PAUSE" -> {
                answer.println("OK Pausing");
                gateway.pause();
            }
            case "RECONNECTDATA", "RECONNECTACCOUNT", "ENABLEAPI" -> answer.println("OK");
            default -> answer.println("ERROR Command invalid: " + command);
        }
        return true;
    }
}
