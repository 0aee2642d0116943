# rpython-pipeline: pypy/pypy3.11-v7.3.23
class Pypy311 < Formula
  desc "Fast implementation of Python 3.11 with a tracing JIT"
  homepage "https://pypy.org"
  url "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-linux64.tar.gz"
  version "7.3.23"
  sha256 "626d28f80698eacf2782a63cd9772ddfbe0d81c74ec794b071cd790a8d0e1b19"
  license "MIT"

  livecheck do
    url "https://downloads.example/pypy/latest.json"
    strategy :json do |json|
      json.dig("interpreters", "pypy3.11", "release", "interpreter_version")
    end
  end

  on_macos do
    depends_on arch: :arm64
    on_arm do
      url "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-macos_arm64.tar.gz"
      sha256 "17cad331ef1c9db2a6dee26ada7a18724cd2f259be6d2dacdb2cfb6a67f887b5"
    end
  end

  on_linux do
    on_arm do
      url "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-aarch64.tar.gz"
      sha256 "f2d512d11c62b8a6dc6cdf37aa5e2e5179e8cde7c072a0234084163a37694fa1"
    end
  end

  def install
    libexec.install Dir["*"]
    bin.install_symlink libexec/"bin"/"pypy3.11"
  end

  def caveats
    <<~EOS
      What pip installs beside the interpreter goes with the next upgrade; use a virtual environment:
        pypy3.11 -m venv DIRECTORY
      The interpreter's other names, and what pip installs, are in:
        #{opt_libexec}/bin
    EOS
  end

  test do
    assert_equal "hello\n", shell_output("#{bin}/pypy3.11 -c \"print('hello')\"")
    assert_equal "pypy\n",
                 shell_output("#{bin}/pypy3.11 -c 'import ssl, sqlite3, sys, zlib; print(sys.implementation.name)'")
  end
end
