# pypy3.11-v7.3.23, for callPackage of Nixpkgs
{
  lib,
  stdenv,
  fetchurl,
  autoPatchelfHook,
}:

let
  sources = {
    "aarch64-darwin" = {
      url = "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-macos_arm64.tar.gz";
      hash = "sha256-F8rTMe8cnbKm3uJq2noYckzS8lm+bS2s2yz7amf4h7U=";
    };
    "aarch64-linux" = {
      url = "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-aarch64.tar.gz";
      hash = "sha256-8tUS0RxiuKbcbN83ql4uUXnozefAcqAjQIQWOjdpT6E=";
    };
    "i686-linux" = {
      url = "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-linux32.tar.gz";
      hash = "sha256-+v7lyPDh3smhu9DZ5HW+ZGkWz4hY5bNerqogifNVvOE=";
    };
    "x86_64-linux" = {
      url = "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-linux64.tar.gz";
      hash = "sha256-Ym0o+AaY6s8ngqY82Xct374NgcdOx5Swcc15Co0OGxk=";
    };
  };
  inherit (stdenv.hostPlatform) system isLinux;
in
stdenv.mkDerivation {
  pname = "pypy3.11";
  version = "7.3.23";

  src = fetchurl (sources.${system} or (throw "pypy3.11: there is no archive for ${system}"));

  nativeBuildInputs = lib.optionals isLinux [ autoPatchelfHook ];
  buildInputs = lib.optionals isLinux [ stdenv.cc.cc.lib ];
  autoPatchelfIgnoreMissingDeps = [
    "libX11.so.6"
    "libXft.so.2"
    "libXss.so.1"
    "libfontconfig.so.1"
  ];

  dontConfigure = true;
  dontBuild = true;
  dontStrip = true;

  installPhase = lib.concatStringsSep "\n" [
    "runHook preInstall"
    "mkdir -p $out/bin $out/opt/pypy3.11"
    "cp -R . $out/opt/pypy3.11"
    "ln -s $out/opt/pypy3.11/bin/pypy3.11 $out/bin/"
    "runHook postInstall"
  ];

  doInstallCheck = true;
  installCheckPhase = lib.concatStringsSep "\n" [
    "runHook preInstallCheck"
    "test \"$($out/bin/pypy3.11 -c \"print('hello')\")\" = hello"
    "runHook postInstallCheck"
  ];

  meta = {
    description = "A fast Python 3.11 with a tracing JIT";
    homepage = "https://pypy.org";
    license = lib.getLicenseFromSpdxId "MIT";
    mainProgram = "pypy3.11";
    platforms = builtins.attrNames sources;
    sourceProvenance = [ lib.sourceTypes.binaryNativeCode ];
  };
}
